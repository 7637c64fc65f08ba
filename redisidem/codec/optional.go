package codec

import "github.com/redisidem/redisidem/redisidem"

// Optional returns a codec that also accepts values that were stored without a codec. Use it when
// you introduce a codec, for one [redisidem.Config].Retention: until then records from before may
// still be read. After that use the codec itself, with which a plain value is
// [redisidem.ErrDamaged]: an attacker may have written it.
//
// Wrap the whole codec: inside a [Chain] it has no effect. Optional of nil is nil.
func Optional(c redisidem.Codec) redisidem.Codec {
	if c == nil {
		return nil
	}
	return optional{c}
}

type optional struct{ redisidem.Codec }

// AcceptsPlain implements [redisidem.PlainAccepter].
func (optional) AcceptsPlain() bool { return true }
