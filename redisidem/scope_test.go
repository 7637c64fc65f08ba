package redisidem_test

import (
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

func TestSeedM6ScopesShareNoRecord(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc := e.service()
		ids := make(map[string]bool)
		for _, tenant := range []string{"a", "b"} {
			key, err := svc.Scope(tenant).Do(ctx, "k", request, finish("order of "+tenant))
			mustBe(t, err, nil)
			mustHold(t, key, `"order of `+tenant+`"`)
			ids[key.ID()] = true
			_, err = svc.Scope("c").WorkStage(ctx, key, never(t))
			mustBe(t, err, redisidem.ErrInvalid)
		}
		if len(ids) != 2 {
			t.Errorf("two scopes share a record: %v", ids)
		}
		_, err := svc.Scope("c").Retrieve(ctx, "k")
		mustBe(t, err, redisidem.ErrNotFound)
	})
}
