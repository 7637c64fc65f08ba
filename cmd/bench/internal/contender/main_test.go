package contender_test

import (
	"testing"

	"github.com/redisidem/redisidem/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }
