"""What names say of repositories and of the files in them."""

import pytest

from eardrop.errors import OptionError
from eardrop.hub.names import HubName, choose, parse, require_name, types

PUBLISHED = [
    f"{kind}LFM2.5-Audio-1.5B-{weights}.gguf"
    for kind in ("", "mmproj-", "vocoder-", "tokenizer-")
    for weights in ("F16", "Q4_0", "Q8_0")
]
OLDER = [
    f"{kind}LFM2-Audio-1.5B-{weights}.gguf"
    for kind in ("", "mmproj-audioencoder-", "audiodecoder-")
    for weights in ("F16", "Q8_0")
]
NAME = HubName("LiquidAI/LFM2.5-Audio-1.5B-GGUF")


def chosen(files, weights=""):
    found = choose(files, HubName(NAME.repo, weights))
    return (*found.texts, found.projector)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("LiquidAI/LFM2.5-Audio-1.5B-GGUF", NAME),
        ("LiquidAI/LFM2.5-Audio-1.5B-GGUF:q4_0", HubName(NAME.repo, "Q4_0")),
        ("u/r@v1.0:Q4_K_M", HubName("u/r", "Q4_K_M", "v1.0")),
        ("u/r@refs/pr/1", HubName("u/r", "", "refs/pr/1")),
    ],
)
def test_a_name_is_a_repository_a_revision_and_a_type(text, name):
    assert parse(text) == name
    assert parse(str(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        *("model.gguf", "models/text.gguf", "models/", "./models/x", "/models/x", "../x/y", "a/b/c", "C:/x", "~/x"),
        *("u/r:", "u/r@", "u/r@../../x", "u/r@a/../b:Q4_0", "u/r\n", "u/r\x00", "", "u", "ü/r", "u/r:Q4_0:Q8_0"),
    ],
)
def test_what_could_be_a_path_is_no_name(text):
    assert parse(text) is None
    with pytest.raises(OptionError, match=r"expected USER/REPO\[:TYPE\]"):
        require_name(text)


def test_text_and_projector_have_the_type_that_was_asked_for():
    assert chosen(PUBLISHED, "Q4_0") == ("LFM2.5-Audio-1.5B-Q4_0.gguf", "mmproj-LFM2.5-Audio-1.5B-Q4_0.gguf")
    assert chosen(OLDER, "F16") == ("LFM2-Audio-1.5B-F16.gguf", "mmproj-audioencoder-LFM2-Audio-1.5B-F16.gguf")


def test_without_a_type_q8_0_is_taken_else_the_next_that_loses_little():
    assert chosen(PUBLISHED)[0] == "LFM2.5-Audio-1.5B-Q8_0.gguf"
    assert chosen(["m-Q2_K.gguf", "m-F32.gguf", "m-Q4_0.gguf", "mmproj-m.gguf"])[0] == "m-Q4_0.gguf"
    assert chosen(["m-Q2_K.gguf", "m-IQ1_S.gguf", "mmproj-m.gguf"])[0] == "m-IQ1_S.gguf"
    assert chosen(["m.gguf", "mmproj.gguf"]) == ("m.gguf", "mmproj.gguf")


@pytest.mark.parametrize(
    ("projectors", "taken"),
    [
        (("F16", "Q8_0", "F32"), "Q8_0"), (("F32", "F16"), "F16"), (("Q4_K_M", "Q8_0"), "Q4_K_M"),
        (("Q5_0", "IQ4_NL"), "IQ4_NL"),
    ],
)  # fmt: skip
def test_a_projector_of_another_type_is_taken_where_the_type_s_own_is_missing(projectors, taken):
    files = ["m-Q4_K_M.gguf", *(f"mmproj-m-{kind}.gguf" for kind in projectors)]
    assert chosen(files, "Q4_K_M")[1] == f"mmproj-m-{taken}.gguf"


def test_the_nearest_folder_has_the_projector():
    files = ["q4/m-Q4_0.gguf", "q4/mmproj-m-F16.gguf", "mmproj-m-Q4_0.gguf", "q8/m-Q8_0.gguf", "q4/x/mmproj-Q8_0.gguf"]
    assert chosen(files, "Q4_0")[1] == "q4/mmproj-m-F16.gguf"
    assert chosen(files, "Q8_0")[1] == "mmproj-m-Q4_0.gguf"


def test_the_projector_of_the_same_model_wins():
    assert chosen(["a-F16.gguf", "mmproj-a-F32.gguf", "mmproj-b-F16.gguf"])[1] == "mmproj-a-F32.gguf"


def test_all_parts_of_a_split_text_are_taken():
    parts = [f"m-F16-0000{part}-of-00003.gguf" for part in (1, 2, 3)]
    assert chosen([*parts, "mmproj-m.gguf"], "F16")[:3] == tuple(parts)
    with pytest.raises(OptionError, match=r"m-F16-00002-of-00003\.gguf is missing"):
        chosen([parts[0], parts[2], "mmproj-m.gguf"])


@pytest.mark.parametrize(
    ("files", "weights", "message"),
    [
        (PUBLISHED, "Q5_K_M", r"no text model of type Q5_K_M; there are F16, Q4_0, Q8_0"),
        (["model.safetensors"], "", r"holds no text model in GGUF"),
        (["mmproj-m.gguf", "vocoder-m.gguf"], "", r"holds no text model in GGUF"),
        (["m-Q8_0.gguf"], "", r"holds no projector \(mmproj-….gguf\)"),
        (["a-Q8_0.gguf", "b-Q8_0.gguf", "mmproj.gguf"], "", r"several text models of type Q8_0 \(a-Q8_0"),
    ],
)
def test_what_can_not_be_chosen_is_said(files, weights, message):
    with pytest.raises(OptionError, match=message):
        chosen(files, weights)


def test_weights_of_the_trainers_hint_at_the_repository_of_files():
    with pytest.raises(OptionError, match=r"try LiquidAI/LFM2-Audio-1\.5B-GGUF"):
        choose(["model.safetensors"], HubName("LiquidAI/LFM2-Audio-1.5B"))


@pytest.mark.parametrize("path", ["../m.gguf", "a/../../m.gguf", "/etc/m.gguf", "a\\m.gguf", "C:m.gguf", "./m.gguf"])
def test_a_path_that_leaves_its_folder_is_no_file(path):
    with pytest.raises(OptionError, match="no text model"):
        chosen([path, "mmproj-m.gguf"])


def test_the_types_that_are_there_are_listed():
    assert types(PUBLISHED) == ["F16", "Q4_0", "Q8_0"]
