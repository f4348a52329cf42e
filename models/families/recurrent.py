"""`nn.RNN`, `nn.LSTM` and `nn.GRU` in any network: their gates are blocks of rows (METHOD 4.4)."""

from specdyn.models.families.base import RECURRENT, Family, Feed, Rule

FAMILY = Family(
    name="recurrent",
    title="nn.LSTM, nn.GRU",
    fragment=True,
    kinds={"": "recurrent"},
    known_by=("weight_ih_l#", "weight_hh_l#"),
    rules=(
        Rule(pattern="weight_ih_l#", role=RECURRENT, gates=True, slot="forward ih"),
        Rule(pattern="weight_hh_l#", role=RECURRENT, gates=True, slot="forward hh"),
        Rule(pattern="weight_hr_l#", role="projection", slot="forward hr"),
        Rule(pattern="weight_ih_l#_reverse", role=RECURRENT, gates=True, slot="reverse ih"),
        Rule(pattern="weight_hh_l#_reverse", role=RECURRENT, gates=True, slot="reverse hh"),
        Rule(pattern="weight_hr_l#_reverse", role="projection", slot="reverse hr"),
    ),
    feeds=(
        Feed(writers=("forward ih",), readers=("forward hh",)),
        Feed(writers=("forward ih", "forward hh"), readers=("forward ih",), where="next"),
        Feed(writers=("reverse ih",), readers=("reverse hh",)),
        Feed(writers=("reverse ih", "reverse hh"), readers=("reverse ih",), where="next"),
    ),
)
