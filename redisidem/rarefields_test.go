package redisidem

import (
	"testing"
	"time"
)

// TestRareFieldsOfOneKeyAreNotThoseOfAnother changes the copies of a key that several callers have.
func TestRareFieldsOfOneKeyAreNotThoseOfAnother(t *testing.T) {
	t.Parallel()
	leased := rareFields{generation: 2, leasedAt: time.Unix(3, 0), leasedBy: "me"}
	key := &Key{rare: &leased}
	before := leased

	claimed := key.rare.withoutLease()
	if claimed == key.rare || claimed.leasedBy != "" || !claimed.leasedAt.IsZero() || claimed.generation != 2 {
		t.Errorf("the claimed key has %+v", claimed)
	}
	if key.clone().rare == key.rare {
		t.Error("a clone shares the rare fields")
	}
	key.clone().copyTexts()
	if *key.rare != before {
		t.Errorf("the key has %+v now, and had %+v", *key.rare, before)
	}
}

func TestKeyWithoutRareFields(t *testing.T) {
	t.Parallel()
	key := &Key{}
	if got := key.rareFields(); got != (rareFields{}) || key.rare.withoutLease() != nil || key.clone().rare != nil {
		t.Errorf("the key has %+v", got)
	}
}
