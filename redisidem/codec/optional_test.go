package codec_test

import (
	"testing"

	"github.com/redisidem/redisidem/redisidem/codec"
)

func TestOptionalOfNilIsNil(t *testing.T) {
	t.Parallel()
	if c := codec.Optional(nil); c != nil {
		t.Errorf("it is a %T", c)
	}
}
