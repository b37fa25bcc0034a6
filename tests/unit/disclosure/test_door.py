"""The door: what the gate withholds, what contributors object to, and what a finished table must look like."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike
from tests.timing import best_of

from federome.disclosure.door import (
    MAX_COLUMNS,
    Released,
    Sealed,
    apply_veto,
    candidates,
    check_parameters,
    check_weights,
    gate,
    nearest,
    release,
    seal,
    significant,
    veto,
)
from federome.errors import Invalid, Refused
from federome.model.release import ALL, Count, Label, Number, Policy, Ratio, Round, Rows, Rule, Statistic, strictest
from federome.model.table import Cell, Mask, Table

POLICY = Policy()
OPEN = Policy(open_data=True)
PEOPLE = Count(people=True)


def numbered(**columns: ArrayLike) -> Table:
    made = {name: np.asarray(values) for name, values in columns.items()}
    size = len(next(iter(made.values())))
    return Table({**made, "row": np.arange(size)})


def round_of(rows: Rows, scope: str = "variants") -> Round:
    return Round("count", scope=scope, totals=rows, gated=True)  # type: ignore[arg-type]


def shown(table: Table, name: str) -> list[Cell]:
    return [record[name] for record in table.records()]


def refusal(error: pytest.ExceptionInfo[Refused]) -> tuple[str, ...]:
    return error.value.codes


# the gate


CASES = Rows(
    {
        **dict.fromkeys(("case_carriers", "case_others", "control_carriers", "control_others", "called"), PEOPLE),
        "copies": Count(guard="called"),
    },
    genotypes=True,
)


def test_a_variant_with_few_carriers_among_cases_or_controls_does_not_go_on() -> None:
    total = numbered(
        case_carriers=[10, 9, 10, 10],
        case_others=[90, 91, 90, 90],
        control_carriers=[50, 50, 9, 0],
        control_others=[60, 60, 101, 110],
        called=[210, 210, 210, 210],
        copies=[60, 60, 20, 10],
    )
    passed = gate(total, round_of(CASES), POLICY, contributors=3)
    assert passed["row"].tolist() == [0]
    assert not passed.withheld


def test_a_vetoed_cell_of_one_axis_takes_its_variant_along() -> None:
    total = numbered(
        case_carriers=[30, 30],
        case_others=[90, 90],
        control_carriers=[50, 50],
        control_others=[60, 60],
        called=[230, 230],
        copies=[90, 90],
    )
    passed = gate(total, round_of(CASES), POLICY, contributors=3)
    vetoes = np.zeros(5 * 2, np.int64)
    vetoes[2 * 2 + 1] = 1  # control_carriers of the second variant
    assert apply_veto(passed, round_of(CASES), vetoes, POLICY)["row"].tolist() == [0]


def test_cells_are_withheld_with_their_group_and_their_wards_and_nothing_lies_under_them() -> None:
    group = Count(people=True, together="zygosity")
    rows = Rows(
        {"called": PEOPLE, "het": group, "hom": group, "alleles": Count(guard="het")},
        genotypes=True,
    )
    total = numbered(called=[[50, 50]], het=[[20, 20]], hom=[[9, 10]], alleles=[[38, 40]])
    passed = gate(total, round_of(rows), POLICY, contributors=4)
    assert shown(passed, "het") == [[None, 20]]
    assert shown(passed, "hom") == [[None, 10]]
    assert shown(passed, "alleles") == [[None, 40]]
    assert shown(passed, "called") == [[50, 50]]
    assert passed["het"].tolist() == [[0, 20]]
    assert passed["alleles"].tolist() == [[0, 40]]


def test_a_variant_goes_when_no_stratum_of_it_is_left() -> None:
    rows = Rows({"carriers": PEOPLE}, genotypes=True)
    total = numbered(carriers=[[9, 3], [9, 10]])
    assert gate(total, round_of(rows), POLICY, contributors=3)["row"].tolist() == [1]


def test_zero_is_fewer_than_ten() -> None:
    rows = Rows({"people": PEOPLE})
    passed = gate(numbered(people=[0, 10]), round_of(rows, "people"), POLICY, contributors=3)
    assert shown(passed, "people") == [None, 10]


@pytest.mark.parametrize(("carriers", "told"), [(10, 10), (90, 90), (91, None), (100, None)])
def test_people_without_the_allele_are_guarded_as_well_where_carriers_and_called_are_shown(
    carriers: int, told: int | None
) -> None:
    rows = Rows(
        {"carriers": PEOPLE, "called": PEOPLE},
        identities=({"carriers": 1, "called": -1, "others": 1},),
    )
    passed = gate(numbered(carriers=[carriers], called=[100]), round_of(rows, "people"), POLICY, contributors=3)
    assert shown(passed, "carriers") == [told]
    assert shown(passed, "called") == [100]


def test_homozygotes_that_carriers_and_alleles_give_away_are_found() -> None:
    # alleles = het + 2 hom, carriers = het + hom: nobody shows hom, and everybody can compute it.
    rows = Rows(
        {"carriers": PEOPLE, "alleles": Count(guard="carriers")},
        identities=(
            {"carriers": 1, "het": -1, "hom": -1},
            {"alleles": 1, "het": -1, "hom": -2},
        ),
    )
    total = numbered(carriers=[100, 100], alleles=[109, 110])
    passed = gate(total, round_of(rows, "people"), POLICY, contributors=3)
    assert shown(passed, "carriers") == [None, 100]


def test_a_row_that_names_a_total_first_is_closed() -> None:
    rows = Rows({"people": PEOPLE}, total=True)
    due = round_of(rows, "people")
    passed = gate(numbered(people=[100, 60, 35, 5]), due, POLICY, contributors=3)
    assert shown(passed, "people") == [100, None, 35, None]
    enough = gate(numbered(people=[100, 84, 8, 8]), due, POLICY, contributors=3)
    assert shown(enough, "people") == [100, 84, None, None]


def test_ungated_rounds_pass_unchanged() -> None:
    due = Round("score", scope="variants", totals=Rows({"score": Number()}))
    total = numbered(score=[[0.5], [1.5]])
    assert gate(total, due, POLICY, contributors=3) is total


def test_open_data_shows_everything() -> None:
    rows = Rows({"people": PEOPLE})
    passed = gate(numbered(people=[0, 1]), round_of(rows, "people"), OPEN, contributors=2)
    assert shown(passed, "people") == [0, 1]


def test_of_two_contributors_each_could_read_the_other() -> None:
    total, due = numbered(people=[100]), round_of(Rows({"people": PEOPLE}), "people")
    with pytest.raises(Refused) as error:
        gate(total, due, POLICY, contributors=2)
    assert refusal(error) == ("incomplete",)
    for contributors in (1, 3):
        assert gate(total, due, POLICY, contributors=contributors).rows == 1
    with pytest.raises(Invalid):
        gate(total, due, POLICY, contributors=0)


@pytest.mark.parametrize(
    ("rows", "total"),
    [
        (Rows({"people": PEOPLE}), numbered(people=[-1])),
        (Rows({"sum": Number()}), numbered(sum=[np.nan])),
        (Rows({"sum": Number()}), numbered(sum=[np.inf])),
        (
            Rows({"a": PEOPLE, "b": PEOPLE, "both": PEOPLE}, identities=({"a": 1, "b": 1, "both": -1},)),
            numbered(a=[10], b=[10], both=[21]),
        ),
    ],
)
def test_totals_that_cannot_be_are_the_mark_of_a_broken_part(rows: Rows, total: Table) -> None:
    with pytest.raises(Refused) as error:
        gate(total, round_of(rows, "people"), POLICY, contributors=3)
    assert refusal(error) == ("token_invalid",)


def test_a_total_with_a_column_too_many_or_too_few_is_refused() -> None:
    due = round_of(Rows({"people": PEOPLE}), "people")
    for total in (numbered(people=[50], more=[1]), numbered(other=[50])):
        with pytest.raises(Refused):
            gate(total, due, POLICY, contributors=3)


def test_identities_that_tell_nothing_of_what_is_shown_change_nothing() -> None:
    rows = Rows({"a": PEOPLE, "b": PEOPLE, "n": PEOPLE}, identities=({"a": 1, "x": -1}, {"b": 1, "x": -1, "y": 1}))
    passed = gate(numbered(a=[5], b=[5], n=[50]), round_of(rows, "people"), POLICY, contributors=3)
    assert passed.records() == [{"a": None, "b": None, "n": 50, "row": 0}]


def test_a_table_without_strata_passes() -> None:
    rows = Rows({"people": PEOPLE}, total=True)
    empty = Table({"people": np.zeros((3, 0), np.int64), "row": np.arange(3)})
    assert gate(empty, round_of(rows, "people"), POLICY, contributors=3).rows == 3


def test_columns_of_an_identity_have_one_shape() -> None:
    rows = Rows({"a": PEOPLE, "b": PEOPLE}, identities=({"a": 1, "b": -1, "c": 1},))
    with pytest.raises(Invalid, match="shape"):
        gate(numbered(a=[50], b=[[70, 70]]), round_of(rows, "people"), POLICY, contributors=3)


@pytest.mark.parametrize("identity", [{"a": 1}, {"a": 1, "b": 0}, {"nowhere": 1, "a": -1}])
def test_an_identity_that_makes_no_sense_is_invalid(identity: dict[str, int]) -> None:
    with pytest.raises(Invalid):
        Rows({"a": PEOPLE}, identities=(identity,))


# objections


@pytest.mark.parametrize(("own", "objects"), [(0, False), (90, False), (91, True), (99, True), (100, False)])
def test_a_node_objects_where_only_few_others_are_left(own: int, objects: bool) -> None:
    assert veto(numbered(people=[100]), numbered(people=[own]), POLICY).tolist() == [objects]


def test_nobody_objects_to_what_is_withheld_already() -> None:
    table = Table({"row": np.array([0]), "people": np.array([0])}, {"people": np.array([True])})
    assert veto(table, numbered(people=[5]), POLICY).tolist() == [False]


def test_a_total_smaller_than_a_nodes_own_part_is_a_lie() -> None:
    with pytest.raises(Refused) as error:
        veto(numbered(people=[100]), numbered(people=[101]), POLICY)
    assert refusal(error) == ("token_invalid",)


def test_objections_come_column_after_column() -> None:
    shown_table = numbered(a=[[100, 100]], b=[[100, 100]])
    own = numbered(a=[[0, 95]], b=[[95, 0]])
    assert veto(shown_table, own, POLICY).tolist() == [False, True, True, False]
    rows = Rows({"a": PEOPLE, "b": PEOPLE})
    vetoed = apply_veto(shown_table, round_of(rows), veto(shown_table, own, POLICY).astype(np.int64), POLICY)
    assert shown(vetoed, "a") == [[100, None]]
    assert shown(vetoed, "b") == [[None, 100]]


def test_vetoes_that_do_not_fit_are_invalid() -> None:
    rows = Rows({"a": PEOPLE, "b": PEOPLE})
    table = numbered(a=[100], b=[100])
    for size in (0, 1, 3):
        with pytest.raises(Invalid):
            apply_veto(table, round_of(rows), np.zeros(size, np.int64), POLICY)


def test_a_node_objects_to_the_others_few_without_the_allele() -> None:
    rows = Rows({"carriers": PEOPLE, "called": PEOPLE}, identities=({"carriers": 1, "called": -1, "others": 1},))
    table = numbered(carriers=[100, 100], called=[200, 200])
    own = numbered(carriers=[40, 40], called=[60, 136])  # of the others' people, 80 and 4 are no carriers
    assert not veto(table, own, POLICY).any()
    assert veto(table, own, POLICY, rows=rows).tolist() == [False, True, False, False]


def test_a_node_objects_until_withheld_rows_do_not_tell_of_the_others_few() -> None:
    rows = Rows({"people": PEOPLE}, total=True)
    due = round_of(rows, "people")
    passed = gate(numbered(people=[300, 100, 185, 15 - 6, 6]), due, POLICY, contributors=3)
    assert shown(passed, "people") == [300, 100, 185, None, None]
    own = numbered(people=[60, 30, 20, 6, 4])  # the others have 3 + 2 people in the withheld rows
    raised = veto(candidates(passed, due), own, POLICY, rows=rows)
    assert raised.tolist() == [False, True, False, False, False]
    vetoed = apply_veto(passed, due, raised.astype(np.int64), POLICY)
    assert shown(vetoed, "people") == [300, None, 185, None, None]


def test_after_a_veto_no_withheld_row_follows_from_the_total() -> None:
    rows = Rows({"people": PEOPLE}, total=True)
    due = round_of(rows, "people")
    passed = gate(numbered(people=[300, 100, 100, 100]), due, POLICY, contributors=3)
    vetoed = apply_veto(passed, due, np.array([0, 0, 1, 0]), POLICY)
    assert shown(vetoed, "people") == [300, 100, None, None]


# parts


def test_only_the_door_makes_what_can_be_sent() -> None:
    with pytest.raises(TypeError):
        Released({}, POLICY, (), object())
    with pytest.raises(TypeError):
        Sealed("roster", 1, 0, b"", object())


def test_a_part_is_sealed_as_declared() -> None:
    rows = Rows({"people": PEOPLE, "sum": Number(bound=10)})
    part = Table({"people": np.array([3]), "sum": np.array([-10.0])})
    sealed = seal(part, rows, b"masked", roster="r", turn=2, part=1)
    assert (sealed.roster, sealed.turn, sealed.part, sealed.masked) == ("r", 2, 1, b"masked")


@pytest.mark.parametrize(
    ("columns", "withheld"),
    [
        ({"people": [3]}, {}),
        ({"people": [3], "sum": [0.0], "more": [1]}, {}),
        ({"people": [-1], "sum": [0.0]}, {}),
        ({"people": [1.0], "sum": [0.0]}, {}),
        ({"people": [1], "sum": [np.nan]}, {}),
        ({"people": [1], "sum": [10.5]}, {}),
        ({"people": [1], "sum": ["x"]}, {}),
        ({"people": [1], "sum": [0.0]}, {"people": np.array([True])}),
    ],
)
def test_a_part_that_is_not_as_declared_is_not_sealed(
    columns: dict[str, list[object]], withheld: dict[str, Mask]
) -> None:
    rows = Rows({"people": PEOPLE, "sum": Number(bound=10)})
    table = Table({name: np.array(values) for name, values in columns.items()}, withheld)
    with pytest.raises((Refused, Invalid)):
        seal(table, rows, b"", roster="r", turn=0, part=0)


# finished tables


COUNTS = Rows({"sex": Label(), "age": Label(), "people": PEOPLE}, key=("sex", "age"))


def released(table: Table, rows: Rows, policy: Policy = POLICY, people: int = 1000) -> Table:
    return release({"t": table}, {"t": rows}, policy, people=people).tables["t"]


def counts(cells: dict[tuple[str, str], int | None]) -> Table:
    people = np.array([0 if n is None else n for n in cells.values()])
    labels = np.array(list(cells), np.str_).T
    hidden = np.array([n is None for n in cells.values()])
    return Table({"sex": labels[0], "age": labels[1], "people": people}, {"people": hidden})


def test_a_cell_alone_in_its_total_gets_company() -> None:
    table = counts({(ALL, ALL): 100, ("f", ALL): 60, ("m", ALL): 37, ("other", ALL): None})
    assert shown(released(table, COUNTS), "people") == [100, None, 37, None]


def test_withheld_cells_whose_sum_is_small_get_company() -> None:
    table = counts({(ALL, ALL): 100, ("f", ALL): 60, ("m", ALL): 34, ("other", ALL): None, ("unknown", ALL): None})
    assert shown(released(table, COUNTS), "people") == [100, None, 34, None, None]
    enough = counts({(ALL, ALL): 100, ("f", ALL): 60, ("m", ALL): 30, ("other", ALL): None, ("unknown", ALL): None})
    assert shown(released(enough, COUNTS), "people") == [100, 60, 30, None, None]


def test_a_withheld_total_does_not_follow_from_its_parts() -> None:
    table = counts({(ALL, ALL): None, ("f", ALL): 60, ("m", ALL): 30})
    assert shown(released(table, COUNTS), "people") == [None, None, 30]


def test_in_a_cross_table_a_withheld_cell_has_company_in_its_row_and_in_its_column() -> None:
    cells: dict[tuple[str, str], int | None] = {
        (sex, age): 40 for sex in ("f", "m") for age in ("0-9", "10-19", "20-29")
    }
    cells[("m", "10-19")] = None
    by_sex = {("f", ALL): 120, ("m", ALL): 85}
    by_age = {(ALL, "0-9"): 80, (ALL, "10-19"): 45, (ALL, "20-29"): 80}
    told = released(counts({(ALL, ALL): 205, **by_sex, **by_age, **cells}), COUNTS)
    by_cell = dict(zip([(ALL, ALL), *by_sex, *by_age, *cells], shown(told, "people"), strict=True))
    hidden = {cell for cell, people in by_cell.items() if people is None}
    assert ("m", "10-19") in hidden
    for line in (["f", "m"], ["0-9", "10-19", "20-29"]):
        for label in line:
            inside = [cell for cell in hidden if label in cell and ALL not in cell]
            assert len(inside) != 1
    # Totals in another question are no secret: without the margins the same cells go.
    without = released(counts({(ALL, ALL): 205, **cells}), COUNTS)
    assert shown(without, "people")[1:].count(None) >= 4


def test_where_a_small_rest_costs_company_it_costs_no_more() -> None:
    ages = [f"{low}-{low + 9}" for low in range(0, 90, 10)]
    cells: dict[tuple[str, str], int | None] = {(sex, age): 200 for sex in ("f", "m") for age in ages}
    told = released(counts({(ALL, ALL): 3600, **cells, ("other", "other"): None}), COUNTS)
    assert shown(told, "people").count(None) == 5  # the rest, and two by two


def test_a_table_too_thin_to_be_looked_through_is_refused() -> None:
    labels = [f"{n}" for n in range(12)]
    cells: dict[tuple[str, str], int | None] = {(a, b): None for a in labels for b in labels}
    margins = {**{(a, ALL): 60 for a in labels}, **{(ALL, b): 60 for b in labels}, (ALL, ALL): 720}
    with pytest.raises(Refused) as error:
        released(counts({**margins, **cells}), COUNTS)
    assert refusal(error) == ("small_cell",)


def test_genotype_tables_have_no_margins() -> None:
    rows = Rows(COUNTS.columns, genotypes=True, key=("sex", "age"))
    table = counts({(ALL, ALL): 100, ("f", ALL): 60, ("other", ALL): None})
    assert shown(released(table, rows), "people") == [100, 60, None]


def test_small_cells_that_an_algorithm_forgot_are_refused() -> None:
    with pytest.raises(Refused) as error:
        released(counts({("f", "0-9"): 9}), COUNTS)
    assert refusal(error) == ("small_cell",)
    assert released(counts({("f", "0-9"): 9}), COUNTS, OPEN)["people"].tolist() == [9]


def test_the_strictest_contributor_decides() -> None:
    policy = strictest([POLICY, Policy(k_min=12, k_public=30, digits=3), OPEN])
    assert (policy.threshold, policy.digits, policy.open_data) == (12, 3, False)
    with pytest.raises(Refused):
        released(counts({("f", "0-9"): 11}), COUNTS, policy)


def test_the_public_is_told_of_larger_groups_only() -> None:
    assert released(counts({("f", "0-9"): 15}), COUNTS)["people"].tolist() == [15]
    with pytest.raises(Refused):
        released(counts({("f", "0-9"): 15}), COUNTS, POLICY.public())
    assert OPEN.public().threshold == 0


def test_wards_of_withheld_cells_are_refused_unless_erased_and_then_marked() -> None:
    rows = Rows({"name": Label(), "people": PEOPLE, "mean": Statistic(guard="people")}, key=("name",))

    def table(mean: float) -> Table:
        return Table(
            {"name": np.array(["x"]), "people": np.array([0]), "mean": np.array([mean])},
            {"people": np.array([True])},
        )

    with pytest.raises(Refused) as error:
        released(table(1.5), rows)
    assert refusal(error) == ("small_cell",)
    told = released(table(0.0), rows)
    assert shown(told, "mean") == [None]


def test_a_quotient_goes_with_either_part() -> None:
    rows = Rows({"name": Label(), "a": Count(), "b": PEOPLE, "a/b": Ratio("a", "b")}, key=("name",))
    hidden = {"b": np.array([True, False])}
    columns = {
        "name": np.array(["x", "y"]),
        "a": np.array([5, 5]),
        "b": np.array([0, 20]),
        "a/b": np.array([0.5, 0.25]),
    }
    told = released(Table(columns, hidden), rows)
    assert shown(told, "a/b") == [None, 0.25]
    assert told["a/b"].tolist() == [0.0, 0.25]


def test_withheld_cells_leave_empty() -> None:
    table = Table({"people": np.array([7]), "name": np.array(["x"])}, {"people": np.array([True])})
    told = released(table, Rows({"people": PEOPLE, "name": Label()}, key=("name",)))
    assert told["people"].tolist() == [0]
    assert b"\x07" not in told.only("people").to_bytes()


def test_an_identity_that_does_not_hold_is_refused_and_one_that_gives_away_is_obeyed() -> None:
    columns: dict[str, Rule] = {
        "name": Label(),
        "carriers": PEOPLE,
        "alleles": Count(guard="carriers"),
        "hom": PEOPLE,
        "het": PEOPLE,
    }
    identities = ({"carriers": 1, "het": -1, "hom": -1}, {"alleles": 1, "het": -1, "hom": -2})
    rows = Rows(columns, key=("name",), identities=identities, genotypes=True)
    good = {"carriers": [100], "alleles": [130], "hom": [30], "het": [70]}
    table = Table({"name": np.array(["v"]), **{n: np.array(v) for n, v in good.items()}})
    assert released(table, rows)["hom"].tolist() == [30]
    with pytest.raises(Refused) as error:
        released(table.with_column("alleles", np.array([131])), rows)
    assert refusal(error) == ("output_class_unapproved",)
    hidden = {name: np.array([True]) for name in ("hom", "het")}
    thin = Table({"name": np.array(["v"]), "carriers": np.array([100]), "alleles": np.array([105]),
                  "hom": np.array([0]), "het": np.array([0])}, hidden)  # fmt: skip
    told = released(thin, rows)
    assert shown(told, "carriers") == [None]
    assert shown(told, "alleles") == [None]


def test_counts_are_told_to_the_nearest_five_and_quotients_from_what_is_told() -> None:
    rows = Rows(
        {
            "name": Label(),
            "share": Ratio("carriers", "people"),
            "carriers": Count(people=True, rounded=5),
            "people": Count(people=True, rounded=5),
        },
        key=("name",),
    )
    table = Table(
        {
            "name": np.array(["a", "b", "c"]),
            "share": np.array([12 / 103, 13 / 102, 0.5]),
            "carriers": np.array([12, 13, 10]),
            "people": np.array([103, 102, 20]),
        }
    )
    told = released(table, rows)
    assert told["carriers"].tolist() == [10, 15, 10]
    assert told["people"].tolist() == [105, 100, 20]
    assert told["share"].tolist() == [significant(np.array([10 / 105]), 6)[0], 0.15, 0.5]


def test_nearest_multiples() -> None:
    values = np.arange(0, 40)
    assert nearest(values, 5).tolist() == [int(np.floor(v / 5 + 0.5)) * 5 for v in values]
    assert nearest(values, 1).tolist() == values.tolist()
    with pytest.raises(Invalid):
        Count(rounded=0)


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("undeclared", counts({("f", "a"): 20})),
        ("t", counts({("f", "a"): 20}).with_column("extra", np.array([1]))),
        ("t", counts({("f", "a"): 20}).only("sex", "people")),
        ("t", counts({("f", "a"): 20}).with_column("people", np.array([20.5]))),
        ("t", counts({("f", "a"): 20}).with_column("people", np.array(["20"]))),
    ],
)
def test_what_is_not_declared_is_refused(name: str, table: Table) -> None:
    with pytest.raises(Refused) as error:
        release({name: table}, {"t": COUNTS}, POLICY, people=100)
    assert refusal(error) == ("output_class_unapproved",)


def test_a_refusal_repeats_neither_names_nor_texts_that_an_algorithm_chose() -> None:
    secret = "Ann-Example"
    for name, table in (
        (secret, counts({("f", "a"): 20})),
        ("t", counts({("f", "a"): 20}).with_column(secret, np.array([1]))),
        ("t", counts({(f"={secret}", "a"): 20})),
    ):
        with pytest.raises(Refused) as error:
            release({name: table}, {"t": COUNTS}, POLICY, people=100)
        assert secret not in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@x", "  =1", "\t=1", "a\nb", "a\rb", "a/b", "a\\b", "..", "x\x00y", "＝1+1", "|x",
     "\u202eabc", "a\u200bb", "\ufeffx", "x" * 10_001],
)  # fmt: skip
def test_texts_that_a_spreadsheet_or_a_file_system_would_obey_are_refused(text: str) -> None:
    with pytest.raises(Refused) as error:
        released(counts({(text, "a"): 20}), COUNTS)
    assert refusal(error) == ("output_class_unapproved",)


@pytest.mark.parametrize(
    "text", ["female", "90+", "10-19", "FIN, north", "<DEL>", "ACGT" * 100, "Åland", "", "1:5:A:G"]
)
def test_labels_pass(text: str) -> None:
    assert released(counts({(text, "a"): 20}), COUNTS)["sex"].tolist() == [text]


def test_a_row_for_every_person_is_refused() -> None:
    rows = Rows({"value": Statistic()})
    table = Table({"value": np.arange(50.0)})
    assert released(table, rows, people=51).rows == 50
    for people in (50, 2, 0):
        with pytest.raises(Refused) as error:
            released(table, rows, people=people)
        assert refusal(error) == ("record_level_output",)
    wide = Table({"value": np.zeros((1, 50))})
    assert released(wide, rows, people=51).rows == 1
    with pytest.raises(Refused):
        released(wide, rows, people=50)


def test_tables_have_a_largest_size() -> None:
    rows = Rows({f"c{n}": Statistic() for n in range(MAX_COLUMNS + 1)})
    table = Table({name: np.zeros(1) for name in rows.columns})
    with pytest.raises(Refused) as error:
        released(table, rows)
    assert refusal(error) == ("output_class_unapproved",)
    broad = Table({"value": np.broadcast_to(np.zeros(1), (20_000_001,))})
    with pytest.raises(Refused):
        released(broad, Rows({"value": Statistic()}, key=("value",)))


@pytest.mark.parametrize(("rule", "value"), [
    (Number(), np.nan), (Number(), np.inf), (Ratio("n", "n"), np.nan), (Label(), np.nan), (Label(), np.inf),
])  # fmt: skip
def test_undefined_values_are_refused_where_they_mean_nothing(rule: Number | Ratio | Label, value: float) -> None:
    rows = Rows({"n": PEOPLE, "x": rule})
    with pytest.raises(Refused) as error:
        released(Table({"n": np.array([50]), "x": np.array([value])}), rows)
    assert refusal(error) == ("output_class_unapproved",)


def test_statistics_may_be_undefined_and_then_all_look_alike() -> None:
    odd = np.frombuffer(np.uint64(0x7FF8_0000_DEAD_BEEF).tobytes(), np.float64)
    rows = Rows({"x": Statistic()}, key=("x",))
    told = released(Table({"x": np.concatenate([odd, [-0.0, np.inf, -np.inf]])}), rows)["x"]
    plain = np.array([np.nan, 0.0, np.inf, -np.inf])
    assert told.tobytes() == plain.tobytes()


def test_digits_are_limited_for_all_numbers_but_counts() -> None:
    rows = Rows(
        {"n": PEOPLE, "s": Statistic(), "i": Statistic(digits=3), "m": Number(), "w": Statistic(digits=15)},
    )
    table = Table(
        {
            "n": np.array([123_456_789]),
            "s": np.array([123_456.789]),
            "i": np.array([123_456_789]),
            "m": np.array([-0.00123456789]),
            "w": np.array([1.23456789]),
        }
    )
    told = released(table, rows, Policy(digits=4)).records()[0]
    assert told == {"n": 123_456_789, "s": 123_500.0, "i": 123_000_000, "m": -0.001235, "w": 1.235}


@pytest.mark.parametrize(
    "value", [5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, -3.14159265e-300, 0.0, 1e22, 123456.7e-22]
)
def test_rounding_holds_at_the_ends_of_the_number_line(value: float) -> None:
    assert significant(np.array([[value]]), 6).tolist() == [[float(f"{value:.5e}")]]


def test_rounding_gives_the_doubles_nearest_to_decimals() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=2000) * 10.0 ** rng.integers(-40, 40, 2000)
    assert significant(values, 6).tolist() == [float(f"{v:.5e}") for v in values.tolist()]


def test_a_published_answer_passes_in_less_than_a_millisecond() -> None:
    strata = ("female", "male")
    rows = Rows(
        {
            "variant": Label(),
            "stratum": Label(),
            "carriers": Count(people=True, together="z"),
            "called": PEOPLE,
            "alleles": Count(guard="called"),
            "frequency": Ratio("alleles", "called"),
        },
        genotypes=True,
        key=("variant", "stratum"),
    )
    size = 10
    table = Table(
        {
            "variant": np.repeat(np.array([f"1:{n}:A:G" for n in range(size)]), 2),
            "stratum": np.tile(np.array(strata), size),
            "carriers": np.full(2 * size, 50),
            "called": np.full(2 * size, 500),
            "alleles": np.full(2 * size, 60),
            "frequency": np.full(2 * size, 0.12),
        }
    )
    assert best_of(lambda: released(table, rows), 0.001) < 0.001


# models and weights


@pytest.mark.parametrize(("parameters", "people", "passes"), [(10, 30, True), (11, 30, False), (5, 15, True),
                                                             (4, 13, False), (0, 9, False)])  # fmt: skip
def test_parameters_are_few_and_people_are_left(parameters: int, people: int, passes: bool) -> None:
    if passes:
        check_parameters(parameters, people, POLICY)
        return
    with pytest.raises(Refused) as error:
        check_parameters(parameters, people, POLICY)
    assert refusal(error) == ("small_cell",)


@pytest.mark.parametrize(
    ("weights", "passes"),
    [
        (np.ones(10), True),
        (np.ones(9), False),
        (np.r_[1.0, np.zeros(999)], False),
        (np.r_[1.0, np.full(999, 1e-6)], False),
        (np.r_[10.0, np.ones(990)], True),
        (np.zeros(50), True),
        (np.tile([1.0, -1.0], 10), True),
        (np.full(100, 1e-200), True),
        (np.column_stack([np.ones(100), np.r_[np.ones(99), 0.0]]), False),  # their difference is one person
        (np.column_stack([np.ones(100), np.tile([0.0, 1.0], 50)]), True),
        (np.column_stack([np.ones(100), 2 * np.ones(100)]), True),
        (np.zeros((0, 2)), True),
    ],
)
def test_weights_do_not_rest_on_few(weights: np.ndarray, passes: bool) -> None:
    if passes:
        check_weights(weights, POLICY)
        return
    with pytest.raises(Refused) as error:
        check_weights(weights, POLICY)
    assert refusal(error) == ("small_cell",)


def test_weights_are_numbers() -> None:
    with pytest.raises(Invalid):
        check_weights(np.array([1.0, np.nan]), POLICY)


@pytest.mark.parametrize("wrong", [{"digits": 0}, {"parameter_share": 0.0}, {"phenotype_share": 2.0},
                                   {"membership_power": 0.05}])  # fmt: skip
def test_policies_that_make_no_sense_are_invalid(wrong: dict[str, float]) -> None:
    with pytest.raises(Invalid):
        Policy(**wrong)  # type: ignore[arg-type]
