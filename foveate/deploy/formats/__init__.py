"""Forms in which a model leaves foveate, by the name that --to takes: a form is one file here and one line below."""

from collections.abc import Mapping

from foveate.deploy.formats import html, measured
from foveate.deploy.formats.form import Form

FORMS: Mapping[str, Form] = {
    **measured.FORMS,
    "html": html.HTML,
    "web": html.WEB,
}
