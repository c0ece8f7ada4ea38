"""HTML as tests read it."""

from html.parser import HTMLParser

VOID = {"br", "circle", "input", "line", "link", "meta", "path", "rect", "use"}


class Nested(HTMLParser):
    """Collects tags, attributes and text, and sees that every element is closed where it was opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data
