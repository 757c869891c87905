"""What the documents name is there."""

import re

import pytest

from manifests import DEPLOY, ROOT

DOCUMENTS = [ROOT / "README.md", *sorted(DEPLOY.glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        place = document.parent / target if target else document
        assert place.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.*)$", place.read_text(), re.MULTILINE)
            assert anchor in [slug(title) for title in titles], link


def slug(title):
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_metrics_are_those_that_are_documented(document):
    documented = (DEPLOY / "README.md").read_text()
    for name in re.findall(r"\b(?:tracehop|process)_[a-z_]+\b", document.read_text()):
        assert f"`{name}`" in documented, name
