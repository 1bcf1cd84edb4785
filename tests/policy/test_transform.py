"""What a class knows to write: everything its author described, and nothing else."""

from proxy.crypto.ff1 import Alphabet
from proxy.crypto.mask import Mask
from proxy.crypto.normalise import Normaliser
from proxy.policy.transform import BY_LOOKUP_KEY, NO_FORMS, Form, Forms, IndexForm


def test_a_token_needs_no_words() -> None:
    assert {form.base for form in Form if NO_FORMS.has(form)} == {Form.TOKEN}


def test_each_form_needs_its_own_words() -> None:
    normaliser = Normaliser(())
    described = {
        Form.MASK: Forms(mask=Mask()),
        Form.INDEX: Forms(index=IndexForm(normaliser)),
        Form.HASH: Forms(hash_of=normaliser),
        Form.FORMAT_PRESERVING: Forms(alphabet=Alphabet("0123456789")),
        Form.REDACTION: Forms(redaction=""),
    }
    assert {*described, Form.TOKEN} == {form.base for form in Form}
    for form, forms in described.items():
        assert {other.base for other in Form if forms.has(other)} == {Form.TOKEN, form}


def test_what_a_lookup_key_makes_has_a_form_for_the_key_before() -> None:
    previous = {form.base for form in Form if form.previous}
    assert previous == BY_LOOKUP_KEY | {Form.TOKEN} and all(form.base is form for form in Form if not form.previous)
