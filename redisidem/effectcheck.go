package redisidem

import (
	"fmt"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/redisidem/effect"
	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// maxEffects bounds the effects of one outcome: the server does nothing else while it applies them.
const maxEffects = 64

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
		case keyed && !strings.HasPrefix(e.Key(), id.ShardKey("")):
			return nil, invalid(field, "(%s %q) must be on a key in the key's shard, made with Stage.ShardKey: %s...",
				e.Command(), e.Key(), id.ShardKey(""))
		case keyed && earlier != "" && earlier != e.Command():
			return nil, invalid(field, "(%s %q) must not be on the key of another effect, %s", e.Command(), e.Key(), earlier)
		}
	}
	return slices.Clone(effects), checkSize("Outcome.Effects", size, limit)
}

// effectCalls returns the effects as a commit sends them, or nil for no effects.
func effectCalls(effects []effect.Effect) []protocol.Effect {
	if len(effects) == 0 {
		return nil
	}
	calls := make([]protocol.Effect, len(effects))
	for i, e := range effects {
		expiry, expires := e.Expiry()
		calls[i] = protocol.Effect{
			Type: e.KeyType(), Key: e.Key(), Expiry: expiry, Expires: expires, Command: e.Command(), Args: e.Args(),
		}
	}
	return calls
}

// effectError returns the error for the EFFECT reply to a commit.
func effectError(effects []effect.Effect, r protocol.Reply) error {
	n, reason, err := r.RefusedEffect(len(effects))
	if err != nil {
		return err
	}
	return &EffectError{Index: n, Key: effects[n].Key(), Reason: reason}
}
