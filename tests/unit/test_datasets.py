"""Converters give what ingestion accepts without a bad row, and count what they leave out."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import rdata
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from recmesh.cli.main import app
from recmesh.offline.datasets.citeulike import NO_TIME
from recmesh.offline.datasets.conversion import ConversionReport
from recmesh.offline.datasets.judged_queries import JudgedQueries, Query
from recmesh.offline.datasets.registry import CONVERTERS, convert
from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import DataError, NotFoundError
from recmesh.storage.ingest import ingest

REAL = Path(__file__).parents[3] / "shared" / "data"


def _ingested(name: str, source: Path, scratch: Path) -> tuple[Dataset, ConversionReport]:
    written = convert(name, source, scratch / "out")
    report = ingest(scratch / "out", scratch / "dataset")
    assert not any(counts.quarantined for counts in report.tables.values())
    assert not any(counts.superseded for counts in report.tables.values())
    assert report.warnings == []
    assert {n: c.added for n, c in report.tables.items()} == {
        n: count for n, count in written.rows.items() if n in report.tables
    }
    return Dataset.open(scratch / "dataset"), written


def test_movielens_100k(tmp_path: Path) -> None:
    (tmp_path / "u.genre").write_text("Action|0\nDrama|1\n")
    (tmp_path / "u.item").write_text("1|Amélie (2001)|||url|0|1\n", "latin-1")
    (tmp_path / "u.user").write_text("7|30|F|doctor|12345\n")
    (tmp_path / "u.data").write_text("7\t1\t4\t881250949\n")
    dataset, _ = _ingested("movielens-100k", tmp_path, tmp_path)
    assert dataset.items["title"].to_pylist() == ["Amélie (2001)"]
    assert dataset.items["topics"].to_pylist() == [["Drama"]]
    assert dataset.events["rating"].to_pylist() == [4.0]


def test_movielens_100k_in_recboles_layout(tmp_path: Path) -> None:
    (tmp_path / "ml-100k.item").write_text(
        "item_id\ttitle\tyear\tclass\n1\tHeat\t1995\tCrime Drama\n"
    )
    (tmp_path / "ml-100k.user").write_text("user_id\tage\tsex\tjob\tzip\n7\t30\tF\tdoctor\t1\n")
    (tmp_path / "ml-100k.inter").write_text("user_id\titem_id\trating\ttime\n7\t1\t4\t881250949\n")
    dataset, _ = _ingested("movielens-100k", tmp_path, tmp_path)
    assert dataset.items["title"].to_pylist() == ["Heat (1995)"]
    assert dataset.items["topics"].to_pylist() == [["Crime", "Drama"]]
    assert dataset.users["interests"].to_pylist() == ["doctor, age 30"]
    assert dataset.events["rating"].to_pylist() == [4.0]


def test_movielens_latest_small(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text('movieId,title,genres\n1,"A, b",Action|Drama\n')
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n7,1,4.5,881250949\n")
    dataset, _ = _ingested("movielens-latest-small", tmp_path, tmp_path)
    assert dataset.items["topics"].to_pylist() == [["Action", "Drama"]]


def test_lastfm_2k_takes_the_first_tag_and_counts_the_others(tmp_path: Path) -> None:
    (tmp_path / "artists.dat").write_text("id\tname\turl\tp\n1\tMúm\tu\tp\n2\tB\tu\tp\n")
    (tmp_path / "user_friends.dat").write_text("userID\tfriendID\n7\t8\n8\t7\n")
    (tmp_path / "user_artists.dat").write_text("userID\tartistID\tweight\n9\t1\t100\n")
    (tmp_path / "user_taggedartists.dat").write_text(
        "userID\tartistID\ttagID\tday\tmonth\tyear\n"
        "7\t1\t3\t1\t4\t2009\n7\t1\t4\t1\t3\t2009\n7\t2\t4\t1\t1\t1956\n"
    )
    dataset, written = _ingested("lastfm-2k", tmp_path, tmp_path)
    assert dataset.events["time"].to_pylist()[0].isoformat() == "2009-03-01T00:00:00+00:00"
    assert dataset.users["user_id"].to_pylist() == ["7", "8", "9"]
    assert sorted(written.left_out.values()) == [1, 1, 1]


MEDQUAD = """<Document id="0000001" source="Site"><Focus>Gout</Focus><FocusAnnotations><UMLS>
<SemanticGroup>Disorders</SemanticGroup></UMLS></FocusAnnotations><QAPairs>
<QAPair pid="1"><Question qid="1-1" qtype="information">What is gout ?</Question>
<Answer> A disease
 of joints. </Answer></QAPair>
<QAPair pid="2"><Question qid="1-2" qtype="treatment">How?</Question><Answer></Answer></QAPair>
</QAPairs></Document>"""
MEDQUAD_OTHER = """<doc docid="7" corpus="NINDS"><doctitle-focus>ALS</doctitle-focus><umls>
<semanticGroup></semanticGroup></umls><qaPairs><pair pid="1">
<question qid="7-1" qtype="information">what is als?</question><answer>Text.</answer></pair>
</qaPairs></doc>"""


def test_medquad_loses_no_pair_silently(tmp_path: Path) -> None:
    source = tmp_path / "MedQuAD.tar.gz"
    # The same question ids in two folders, as in the real files.
    files = {
        "m/1_A_QA/1.xml": MEDQUAD,
        "m/2_B_QA/1.xml": MEDQUAD,
        "m/6_NINDS_QA/7.xml": MEDQUAD_OTHER,
        "m/11_MPlusDrugs_QA/9.xml": MEDQUAD.replace("A disease\n of joints.", ""),
        "m/1_A_QA/._1.xml": "\0",
    }
    with tarfile.open(source, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    dataset, written = _ingested("medquad", source, tmp_path)
    assert dataset.items["item_id"].to_pylist() == [
        "1_A_QA/1/1-1",
        "2_B_QA/1/1-1",
        "6_NINDS_QA/7/7-1",
    ]
    assert dataset.items["topics"].to_pylist()[1:] == [["Gout"], ["ALS"]]
    assert dataset.items["body"].to_pylist()[0] == "A disease of joints."
    assert written.left_out == {
        "answers empty in the source": 2,
        "answers withdrawn for MedlinePlus' copyright": 2,
    }


def test_medquad_answers_open_with_an_abstract(tmp_path: Path) -> None:
    long = "One sentence of an answer. " * 40
    (tmp_path / "1_A_QA").mkdir()
    text = MEDQUAD.replace("A disease\n of joints.", long)
    (tmp_path / "1_A_QA" / "1.xml").write_text(text)
    dataset, _ = _ingested("medquad", tmp_path, tmp_path)
    [item] = dataset.items.to_pylist()
    assert item["abstract"] == ("One sentence of an answer. " * 11).strip()
    assert item["body"].startswith(item["abstract"])


def test_nfcorpus_carries_its_judgements(tmp_path: Path) -> None:
    raw = tmp_path / "test" / "raw"
    raw.mkdir(parents=True)
    earlier = tmp_path / "train" / "raw"
    earlier.mkdir(parents=True)
    (earlier / "q-titles.queries").write_text("PLAIN-3\tcholesterol\n")
    (earlier / "s-3.qrel").write_text("PLAIN-3\t0\tMED-1\t1\n")
    (raw / "d-collection.docs").write_text(
        "MED-1\tstatin survival abstract recent studies \nMED-2\tno mark here\n"
    )
    (raw / "q-titles.queries").write_text("PLAIN-1\tstatins\nPLAIN-2\tunjudged\n")
    (raw / "s-3.qrel").write_text("PLAIN-1\t0\tMED-1\t2\nPLAIN-1\t0\tMED-9\t1\n")
    dataset, written = _ingested("nfcorpus", tmp_path, tmp_path)
    assert dataset.items["title"].to_pylist() == ["statin survival", "no mark here"]
    assert dataset.items["abstract"].to_pylist() == ["recent studies", ""]
    judged = JudgedQueries.load(tmp_path / "out")
    assert [query.text for query in judged.queries] == ["statins", "unjudged", "cholesterol"]
    assert [query.split for query in judged.queries] == ["test", "test", "train"]
    assert judged.judgements == [("PLAIN-1", "MED-1", 2), ("PLAIN-3", "MED-1", 1)]
    assert written.left_out == {"test judgements of documents the test collection lacks": 1}


def test_pubmedqa_keeps_the_question_out_of_the_item(tmp_path: Path) -> None:
    paper = {
        "QUESTION": "Do statins help?",
        "CONTEXTS": ["Statins are drugs. They lower lipids.", "We tried."],
        "MESHES": ["Statins"],
        "YEAR": "2011",
        "LONG_ANSWER": "They do.",
        "final_decision": "yes",
    }
    (tmp_path / "data").mkdir()
    papers = {"11": paper, "12": {**paper, "YEAR": None}}
    (tmp_path / "data/ori_pqal.json").write_text(json.dumps(papers))
    (tmp_path / "data/test_ground_truth.json").write_text('{"12": "yes"}')
    dataset, _ = _ingested("pubmedqa", tmp_path, tmp_path)
    items = dataset.items.to_pylist()
    assert items[0]["title"] == "Statins are drugs."
    assert items[0]["abstract"] == "They lower lipids. We tried."
    assert items[0]["published_at"].year == 2011
    assert items[1]["published_at"] is None
    assert not any("help" in str(item) or "They do" in str(item) for item in items)
    judged = JudgedQueries.load(tmp_path / "out")
    assert judged.queries[1] == Query("12", "Do statins help?", "test", "They do.", "yes")
    assert judged.judgements == [("11", "11", 1), ("12", "12", 1)]


def test_ckm_physicians(tmp_path: Path) -> None:
    edges = tmp_path / "CKM-Physicians-Innovation_multiplex.edges"
    edges.write_text("1 1 87 1\n3 119 118 1\n")
    survey = pd.DataFrame({"city": [1.0, 2.0, 2.0], "id": [1.0, 1.0, 2.0], "toa": [1.0, 14, 18]})
    rdata.write_rda(tmp_path / "medInnovations.rdata", {"medInnovations": survey})
    dataset, written = _ingested("ckm-physicians", tmp_path, tmp_path)
    assert dataset.edges["edge_type"].to_pylist() == ["advice", "friend"]
    events = [(e["user_id"], str(e["time"])[:10]) for e in dataset.events.to_pylist()]
    assert events == [("1", "1953-11-01"), ("118", "1954-12-01")]
    assert sorted(written.left_out.values()) == [1, 243]
    (tmp_path / "medInnovations.rdata").write_bytes(b"RDX3\nbroken")
    with pytest.raises(DataError, match="not readable"):
        convert("ckm-physicians", tmp_path, tmp_path / "again")


def _citeulike(folder: Path) -> None:
    (folder / "users.dat").write_text("2 0 1\n1 1\n")
    (folder / "tags.dat").write_bytes(b"g\x85o\nbiology\n")  # a line end to splitlines
    (folder / "citations.dat").write_text("1 1\n0\n")


def test_citeulike_a(tmp_path: Path) -> None:
    _citeulike(tmp_path)
    (tmp_path / "item-tag.dat").write_text("2 0 1\n0\n")
    (tmp_path / "raw-data.csv").write_bytes(
        b'"doc.id","title","citeulike.id","raw.title","raw.abstract"\n'
        b'"1","the genes","42","The Genes","Two\nlines"\n'
        b'"2","caf\xe9","43","Caf\xe9","Text"\n'
    )
    dataset, written = _ingested("citeulike-a", tmp_path, tmp_path)
    assert dataset.items["title"].to_pylist() == ["The Genes", "Café"]
    assert dataset.items["abstract"].to_pylist() == ["Two\nlines", "Text"]
    assert dataset.items["topics"].to_pylist() == [["g\x85o", "biology"], []]
    events = {(e["user_id"], e["item_id"]) for e in dataset.events.to_pylist()}
    assert events == {("0", "0"), ("0", "1"), ("1", "1")}
    assert set(dataset.events["time"].to_pylist()) == {NO_TIME}
    assert (tmp_path / "out/citations.tsv").read_text() == "citing_item_id\tcited_item_id\n0\t1\n"
    assert written.rows["citations"] == 1


def test_citeulike_t(tmp_path: Path) -> None:
    _citeulike(tmp_path)
    (tmp_path / "tag-item.dat").write_text("1 1\n2 0 1\n")
    long = "words " * 40
    (tmp_path / "rawtext.dat").write_text(f"##0\nA title. Its abstract.\n##1\n{long}\n")
    dataset, _ = _ingested("citeulike-t", tmp_path, tmp_path)
    titles = dataset.items["title"].to_pylist()
    assert titles[0] == "A title."
    assert f"{titles[1]} {dataset.items['abstract'].to_pylist()[1]}" == long.strip()
    assert dataset.items["topics"].to_pylist() == [["biology"], ["g\x85o", "biology"]]
    assert dataset.events.num_rows == 3


def test_lists_of_another_length_are_an_error(tmp_path: Path) -> None:
    _citeulike(tmp_path)
    (tmp_path / "rawtext.dat").write_text("##0\nA\n##1\nB\n")
    (tmp_path / "tag-item.dat").write_text("3 1\n0\n")
    with pytest.raises(DataError, match=r"tag-item\.dat line 1"):
        convert("citeulike-t", tmp_path, tmp_path / "out")


def test_the_command_says_what_it_wrote_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "1_A_QA").mkdir()
    (tmp_path / "1_A_QA" / "1.xml").write_text(MEDQUAD)
    words = ["datasets", "convert", "medquad", str(tmp_path), str(tmp_path / "out")]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0
    assert said.stdout == "items 1\nleft out: 1 answers empty in the source\n"
    parsed = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert parsed == {"rows": {"items": 1}, "left_out": {"answers empty in the source": 1}}
    failed = CliRunner().invoke(app, ["datasets", "convert", "nfcorpus", *words[3:]])
    assert failed.exit_code == 1
    assert "no file" in failed.stderr


@pytest.mark.parametrize("name", CONVERTERS)
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file"):
        convert(name, tmp_path / "absent", tmp_path / "out")


_IDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1)


@settings(deadline=None)
@given(
    st.lists(st.builds(Query, _IDS, st.text(st.characters(exclude_categories=["Cs"])), _IDS)),
    st.lists(st.tuples(_IDS, _IDS, st.integers(0, 4))),
)
def test_judged_queries_survive_the_files(
    tmp_path_factory: pytest.TempPathFactory,
    queries: list[Query],
    judgements: list[tuple[str, str, int]],
) -> None:
    folder = tmp_path_factory.mktemp("queries")
    JudgedQueries(queries, judgements).write(folder)
    loaded = JudgedQueries.load(folder)
    assert loaded.queries == queries
    assert loaded.judgements == judgements


PUBLISHED = {
    # MedQuAD's readme: 47,457 pairs, some without the answer.
    "medquad": ("medquad.tar.gz", {"items": 16_423}, 47_457 - 16_423),
    # HetRec's readme: 17,632 artists, 1,892 users, 12,717 friendships in both directions.
    "lastfm-2k": (
        "lastfm-2k",
        {"items": 17_632, "users": 1_892, "events": 71_062, "edges": 25_434},
        186_479 - 71_062 + 92_834,
    ),
    # 2,594 queries of train, of whose 110,575 judgements some name documents elsewhere.
    "nfcorpus": (
        "nfcorpus",
        {"items": 3_162, "queries": 325 + 2_594, "judgements": 12_334 + 110_575 - 3_848},
        3_848,
    ),
    "nfcorpus-dev": (
        "nfcorpus",
        {"items": 3_193, "queries": 325 + 2_594, "judgements": 11_385 + 110_575 - 4_057},
        4_057,
    ),
    "pubmedqa": ("pubmedqa", {"items": 1_000, "queries": 1_000, "judgements": 1_000}, 0),
    # 125 surveyed, 16 of them without the drug.
    "ckm-physicians": (
        "ckm-physicians",
        {"items": 1, "users": 246, "edges": 1_551, "events": 109},
        246 - 109,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_data_has_the_published_size(name: str, tmp_path: Path) -> None:
    path, rows, left_out = PUBLISHED[name]
    if not (REAL / path).exists():
        pytest.skip(f"{name} is not in {REAL}")
    _, written = _ingested(name, REAL / path, tmp_path)
    assert written.rows == rows
    assert sum(written.left_out.values()) == left_out


def test_survey_and_network_of_the_physicians_agree(tmp_path: Path) -> None:
    source = REAL / "ckm-physicians"
    if not source.exists():
        pytest.skip(f"ckm-physicians is not in {REAL}")
    convert("ckm-physicians", source, tmp_path)
    ingest(tmp_path, tmp_path / "dataset")
    edges = Dataset.open(tmp_path / "dataset").edges.to_pylist()
    kinds = ("advice", "discussion", "friend")
    ties = {(e["edge_type"], e["source_user_id"], e["target_user_id"]) for e in edges}
    survey = rdata.read_rda(source / "medInnovations.rdata")["medInnovations"]
    agree = total = 0
    for row in survey.itertuples():
        shift = {1: 0, 2: 117, 3: 167, 4: 211}[int(row.city)]
        for number, kind in enumerate(kinds, 1):
            named = (getattr(row, f"net{number}_{place}") for place in (1, 2, 3))
            for other in (int(n) + shift for n in named if n == n):
                total += 1
                agree += (kind, str(int(row.id) + shift), str(other)) in ties
    assert agree / total > 0.98
