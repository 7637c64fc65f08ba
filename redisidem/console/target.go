package console

import (
	"context"
	"fmt"
	"net/url"

	"github.com/redisidem/redisidem/redisidem"
)

// target names a key in a form, and how the user has seen it.
type target struct{ id, scope, value, seen string }

func newTarget(k *redisidem.KeyInfo) target {
	return target{k.ID, k.Scope, k.Value, seenAs(k)}
}

// seenAs is what changes when the key advances or gets another worker.
func seenAs(k *redisidem.KeyInfo) string {
	return fmt.Sprintf("%d %d %d", k.Revision, k.CreatedAt.UnixMicro(), k.LockedAt.UnixMicro())
}

// String returns the target as the value of a form's field.
func (t target) String() string {
	return url.Values{"id": {t.id}, "scope": {t.scope}, "value": {t.value}, "seen": {t.seen}}.Encode()
}

func parseTarget(text string) (target, error) {
	values, err := url.ParseQuery(text)
	if err != nil || !values.Has("id") || !values.Has("seen") {
		return target{}, badInput("target", "is not one of this console's")
	}
	return target{values.Get("id"), values.Get("scope"), values.Get("value"), values.Get("seen")}, nil
}

// read reads the key. Scope and value name its shard, so that not all shards are asked. It returns
// ErrStale if the key is not as the user has seen it.
func (t target) read(ctx context.Context, in *redisidem.Inspector) (k *redisidem.KeyInfo, err error) {
	if t.scope != "" {
		k, err = in.Get(ctx, t.scope, t.value)
	} else {
		k, err = in.Find(ctx, t.id)
	}
	switch {
	case err != nil:
		return nil, err
	case k.ID != t.id:
		return nil, badInput("target", "is not one of this console's")
	case seenAs(k) != t.seen:
		return nil, redisidem.ErrStale
	}
	return k, nil
}
