package idemclient_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemclient"
)

func TestDraft_2_2_KeysThatTheLibraryMakesAreUUIDs(t *testing.T) {
	t.Parallel()
	for version, key := range map[uuid.Version]string{4: idemclient.NewKey(), 7: idemclient.NewTimeKey()} {
		id, err := uuid.Parse(key)
		if err != nil || id.Version() != version || httpidem.UUIDKeys(key) != nil {
			t.Errorf("%s: version %d, %v", key, id.Version(), err)
		}
	}
	if one, two := idemclient.NewKey(), idemclient.NewKey(); one == two {
		t.Error("the same key twice")
	}
}
