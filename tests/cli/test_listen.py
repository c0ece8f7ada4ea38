from eardrop.cli.main import main


def test_a_file_is_sent_to_transcribe(capsys):
    assert main(["listen", "talk.mp3"]) == 2
    assert "for a file: eardrop transcribe talk.mp3" in capsys.readouterr().err
