"""The encoding of a text that does not say it is guessed right for words of many languages, in few rows and many."""

from pathlib import Path

import pytest

from steps.core.errors import SourceUnreadable
from steps.core.sources import text_files
from steps.core.sources.encoding_guess import example, likely_encoding

WORDS = {
    "cp1252": ["Straße;Köln;für", "prénom;été;Besançon;ça", "niño;mañana;¿qué?", "São Paulo;ação", "Malmö;Åre"],
    "cp1250": ["Łódź;Kraków;żółw;gęś", "Plzeň;příliš;žluťoučký;kůň"],
    "cp1251": ["Москва;Санкт-Петербург;Да;Нет"],
    "cp1253": ["Αθήνα;Θεσσαλονίκη"],
    "cp932": ["さくらんぼ;はい;テスト"],
    "gb18030": ["北京;上海;城市"],
    "euc_kr": ["서울;부산;아니오"],
}  # fmt: skip


@pytest.mark.parametrize(("encoding", "words"), [(key, words) for key, texts in WORDS.items() for words in texts])
@pytest.mark.parametrize("row_count", [3, 300])
def test_words_are_read_as_they_were_written(encoding: str, words: str, row_count: int) -> None:
    text = "id;x;a;b;c\n" + "".join(f"{row};{row * 3.5};{words}\n" for row in range(row_count))
    assert text.encode(encoding).decode(likely_encoding(text.encode(encoding))) == text


def test_the_word_that_is_shown_is_the_first_beyond_ascii() -> None:
    assert example('7,"Rue","Besançon", été') == "Besançon"
    assert example("7,Rue") == ""


@pytest.mark.parametrize(("second", "is_refused"), [("utf-8", True), ("cp1252", False), ("utf-8-sig", False)])
def test_an_encoding_guessed_for_one_file_never_garbles_another_in_utf8(
    tmp_path: Path, second: str, is_refused: bool
) -> None:
    text = "a,city,y\n" + "1,Köln,0\n2,Orléans,1\n3,Rom,0\n" * 20
    for name, encoding in {"a.csv": "cp1252", "b.csv": second}.items():
        (tmp_path / name).write_bytes(text.encode(encoding))
    (tmp_path / "c.csv").write_bytes(b"a,city,y\n1,Rom,0\n")
    files = {str(path): path.stat().st_size for path in sorted(tmp_path.iterdir())}
    first = str(tmp_path / "a.csv")
    if is_refused:
        with pytest.raises(
            SourceUnreadable, match=r"b\.csv is UTF-8, and .*a\.csv is not (.|\n)*save all files in UTF-8"
        ):
            text_files.check_one_encoding(files, guessed="cp1252", in_file=first)
    else:
        text_files.check_one_encoding(files, guessed="cp1252", in_file=first)
