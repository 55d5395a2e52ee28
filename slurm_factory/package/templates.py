"""Text files from templates."""

from collections.abc import Callable, Mapping

from jinja2 import Environment, StrictUndefined

from slurm_factory import resources


def render(
    name: str, filters: Mapping[str, Callable[[str], str]] | None = None, **values: object
) -> str:
    """The text of the template `name`, in which every value that it uses must be given."""
    return render_text(resources.template(name), filters, **values)


def render_text(
    text: str, filters: Mapping[str, Callable[[str], str]] | None = None, **values: object
) -> str:
    """As `render`, with the text of a template."""
    # The output is no HTML; filters quote for what it is.
    environment = Environment(  # noqa: S701
        undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters.update(filters or {})
    return environment.from_string(text).render(values)
