package effect_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem/effect"
)

// TestEffectsAreTheCommandsTheyAreNamedAfter reads each effect as the core does.
func TestEffectsAreTheCommandsTheyAreNamedAfter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		effect           effect.Effect
		command, keyType string
		args             []string
	}{
		{effect.Set("k", "v"), "SET", "string", []string{"v"}},
		{effect.IncrBy("k", -7), "INCRBY", "string", []string{"-7"}},
		{effect.HSet("k", "f", "v"), "HSET", "hash", []string{"f", "v"}},
		{effect.SAdd("k", "a", "b"), "SADD", "set", []string{"a", "b"}},
		{effect.ZAdd("k", 1.5, "m"), "ZADD", "zset", []string{"1.5", "m"}},
		{effect.LPush("k", "a", "b"), "LPUSH", "list", []string{"a", "b"}},
		{effect.XAdd("k", "f", "v"), "XADD", "stream", []string{"*", "f", "v"}},
		{effect.XAdd("k", "f", "v").MaxLen(9), "XADD", "stream", []string{"MAXLEN", "~", "9", "*", "f", "v"}},
		{effect.Publish("k", "v"), "PUBLISH", "", []string{"v"}},
	} {
		e := c.effect
		if e.Command() != c.command || e.KeyType() != c.keyType || e.Key() != "k" || !slices.Equal(e.Args(), c.args) {
			t.Errorf("%s is %s on a %q %q with %q", c.command, e.Command(), e.KeyType(), e.Key(), e.Args())
		}
		if err := e.Err(); err != nil {
			t.Errorf("%s is invalid: %v", c.command, err)
		}
	}
	if n := effect.HSet("key", "f", "value").Size(); n != 9 {
		t.Errorf("the size is %d, want 9", n)
	}
	if d, ok := effect.Set("k", "v").Expiry(); ok || d != 0 {
		t.Errorf("an effect without Expire expires after %v", d)
	}
	if d, ok := effect.Set("k", "v").Expire(time.Hour).Expiry(); !ok || d != time.Hour {
		t.Errorf("an effect with Expire expires after %v", d)
	}
}

func TestInvalidEffectsAreReported(t *testing.T) {
	t.Parallel()
	for word, e := range map[string]effect.Effect{
		"made by":       {},
		"15 digits":     effect.IncrBy("k", math.MinInt64),
		"pairs":         effect.HSet("k", "f"),
		"at least one":  effect.SAdd("k"),
		"NaN":           effect.ZAdd("k", math.NaN(), "m"),
		"1ms":           effect.Set("k", "v").Expire(0),
		"cannot expire": effect.Publish("k", "v").Expire(time.Hour),
		"is for XAdd":   effect.Set("k", "v").MaxLen(1),
		"at least 1: 0": effect.XAdd("k", "f", "v").MaxLen(0),
		"1001":          effect.LPush("k", make([]string, effect.MaxWords+1)...),
	} {
		if err := e.Err(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("the error is %v, which does not say %q", err, word)
		}
	}
}

// TestEffectsAreValues shows that an effect shares nothing with the caller's slice, and that its
// methods leave the receiver as it is.
func TestEffectsAreValues(t *testing.T) {
	t.Parallel()
	members := []string{"a"}
	e := effect.SAdd("k", members...)
	members[0] = "b"
	_ = e.Expire(time.Hour)
	if _, expires := e.Expiry(); expires || e.Args()[0] != "a" {
		t.Errorf("the effect was changed: %q", e.Args())
	}
}
