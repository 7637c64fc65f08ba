package redisidem

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redisidem/redisidem/redisidem/effect"
)

// maxEffects bounds the effects of one outcome: the server does nothing else while it applies them.
const maxEffects = 64

// shardKey names a Redis key of the program in the cluster slot of a record. The x keeps it apart
// from the keys of the library.
func (id identity) shardKey(name string) string { return id.neighbour("x:" + name) }

// checkEffects returns a copy of the effects, or an error for the first one that cannot succeed.
func checkEffects(effects []effect.Effect, id identity, limit int) ([]effect.Effect, error) {
	if len(effects) > maxEffects {
		return nil, invalid("Outcome.Effects", "are %d, more than %d", len(effects), maxEffects)
	}
	size := 0
	commands := make(map[string]string, len(effects))
	for i, e := range effects {
		field := fmt.Sprintf("Outcome.Effects[%d]", i)
		keyed := e.KeyType() != ""
		size += e.Size()
		earlier := commands[e.Key()]
		if keyed {
			commands[e.Key()] = e.Command()
		}
		err := e.Err()
		switch {
		case e.Command() == "":
			return nil, invalid(field, "%v", err)
		case err != nil:
			return nil, invalid(field, "(%s %q) %v", e.Command(), e.Key(), err)
		case keyed && !strings.HasPrefix(e.Key(), id.shardKey("")):
			return nil, invalid(field, "(%s %q) must be on a key in the key's shard, made with Stage.ShardKey: %s...",
				e.Command(), e.Key(), id.shardKey(""))
		case keyed && earlier != "" && earlier != e.Command():
			return nil, invalid(field, "(%s %q) must not be on the key of another effect, %s", e.Command(), e.Key(), earlier)
		case size > limit:
			return nil, invalid("Outcome.Effects", "are longer than MaxValueBytes (%d)", limit)
		}
	}
	return slices.Clone(effects), nil
}

// addEffects adds the effects to a commit. Their keys are among the keys of the call already.
func (c *call) addEffects(effects []effect.Effect) {
	for _, e := range effects {
		expiry := ""
		if d, ok := e.Expiry(); ok {
			expiry = strconv.FormatInt(d.Milliseconds(), 10)
		}
		args := e.Args()
		if e.KeyType() == "" {
			args = append([]string{e.Key()}, args...)
		}
		c.add(e.KeyType(), expiry, len(args), e.Command())
		for _, a := range args {
			c.add(a)
		}
	}
}

// effectError returns the error for the EFFECT reply to a commit.
func effectError(effects []effect.Effect, r reply) error {
	if err := r.need(); err != nil {
		return err
	}
	n, err := strconv.Atoi(r.number(0))
	if err != nil || n < 0 || n >= len(effects) {
		return fmt.Errorf("redisidem: the server refuses effect %q of %d", r.number(0), len(effects))
	}
	return &EffectError{Index: n, Key: effects[n].Key(), Reason: r.rest[0]}
}
