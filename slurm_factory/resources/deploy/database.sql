CREATE DATABASE IF NOT EXISTS slurm_acct_db;
CREATE USER IF NOT EXISTS slurm@localhost IDENTIFIED BY '@PASSWORD@';
ALTER USER slurm@localhost IDENTIFIED BY '@PASSWORD@';
GRANT ALL ON slurm_acct_db.* TO slurm@localhost;
