"""The encoding of a text that does not say it is guessed right for words of many languages, in few rows and many."""

import pytest

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
