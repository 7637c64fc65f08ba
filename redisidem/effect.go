package redisidem

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// maxEffects bounds the effects of one outcome: the server does nothing else while it applies them.
const maxEffects = 64

// maxEffectWords bounds the fields, members or values of one effect: Lua passes so many to a command and no more.
const maxEffectWords = 1000

// Effect is a write to Redis that an [Outcome] carries. Make one with [Set], [IncrBy], [HSet], [SAdd], [ZAdd], [LPush], [XAdd]
// or [Publish]. It is a value: its methods return changed copies.
//
// Types are checked by the commit before it writes anything: an effect on a key of another type is an [*EffectError], and
// nothing of its outcome is stored then.
type Effect struct {
	command, kind string // kind is the type of the key
	key           string
	args          []string
	expiry        time.Duration
	hasExpiry     bool
	maxLen        int64
	err           error
}

// Set makes an effect that sets a string, without an expiry if it is given none.
func Set(key, value string) Effect {
	return Effect{command: "SET", kind: "string", key: key, args: []string{value}}
}

// IncrBy makes an effect that adds n, which may be negative, to a whole number. Number and n have at most 15 digits.
func IncrBy(key string, n int64) Effect {
	e := Effect{command: "INCRBY", kind: "string", key: key, args: []string{strconv.FormatInt(n, 10)}}
	if n > maxIncrement || n < -maxIncrement {
		e.err = fmt.Errorf("n has more than 15 digits: %d", n)
	}
	return e
}

// maxIncrement keeps sums far from where 64 bits overflow, which would be an error in the middle of a commit.
const maxIncrement = 999_999_999_999_999

// HSet makes an effect that sets fields of a hash: field, value, ...
func HSet(key string, pairs ...string) Effect {
	return Effect{command: "HSET", kind: "hash", key: key, args: slices.Clone(pairs), err: pairsError(pairs)}
}

// SAdd makes an effect that adds members to a set.
func SAdd(key string, members ...string) Effect {
	return Effect{command: "SADD", kind: "set", key: key, args: slices.Clone(members), err: someError(members)}
}

// ZAdd makes an effect that adds a member to a sorted set, or gives it another score.
func ZAdd(key string, score float64, member string) Effect {
	e := Effect{command: "ZADD", kind: "zset", key: key, args: []string{strconv.FormatFloat(score, 'g', -1, 64), member}}
	if math.IsNaN(score) || math.IsInf(score, 0) {
		e.err = fmt.Errorf("score is no number: %v", score)
	}
	return e
}

// LPush makes an effect that puts values in front of a list, one after the other.
func LPush(key string, values ...string) Effect {
	return Effect{command: "LPUSH", kind: "list", key: key, args: slices.Clone(values), err: someError(values)}
}

// XAdd makes an effect that appends an entry to a stream: field, value, ... With one stream per shard, as [Stage.ShardKey]
// names them, it is an outbox: the entry exists exactly when its stage was committed.
func XAdd(key string, pairs ...string) Effect {
	return Effect{command: "XADD", kind: "stream", key: key, args: slices.Clone(pairs), err: pairsError(pairs)}
}

// Publish makes an effect that publishes a message to those who are subscribed to the channel by then. Nobody else ever hears it: use
// [XAdd] for what must not get lost. The channel may have any name.
func Publish(channel, message string) Effect {
	return Effect{command: "PUBLISH", key: channel, args: []string{message}}
}

// Expire lets the effect's key expire, counted from the commit. In whole milliseconds, at least one. Not for Publish.
func (e Effect) Expire(d time.Duration) Effect {
	e.expiry, e.hasExpiry = d, true
	return e
}

// MaxLen trims the stream of an XAdd to about n entries, and never below.
func (e Effect) MaxLen(n int64) Effect {
	if e.command != "XADD" || n < 1 {
		e.err = fmt.Errorf("MaxLen is for XAdd and at least 1: %d", n)
	}
	e.maxLen = n
	return e
}

func pairsError(pairs []string) error {
	if len(pairs) == 0 || len(pairs)%2 != 0 {
		return fmt.Errorf("needs pairs of field and value, not %d words", len(pairs))
	}
	return nil
}

func someError(values []string) error {
	if len(values) == 0 {
		return fmt.Errorf("needs at least one value")
	}
	return nil
}

// checkEffects reports the first effect that can be known to fail.
func checkEffects(effects []Effect, id identity, limit int) ([]Effect, error) {
	if len(effects) > maxEffects {
		return nil, invalid("Outcome.Effects", "are %d, more than %d", len(effects), maxEffects)
	}
	size := 0
	commands := make(map[string]string, len(effects))
	for i, e := range effects {
		field := fmt.Sprintf("Outcome.Effects[%d]", i)
		size += len(e.key)
		for _, a := range e.args {
			size += len(a)
		}
		before := commands[e.key]
		if e.kind != "" {
			commands[e.key] = e.command
		}
		switch {
		case e.command == "":
			return nil, invalid(field, "must be made by one of the functions that make effects")
		case e.err != nil:
			return nil, invalid(field, "(%s %q) %v", e.command, e.key, e.err)
		case len(e.args) > maxEffectWords:
			return nil, invalid(field, "(%s %q) has %d words, more than %d", e.command, e.key, len(e.args), maxEffectWords)
		case e.kind == "" && e.hasExpiry:
			return nil, invalid(field, "(%s %q) has nothing that could expire", e.command, e.key)
		case e.hasExpiry && (e.expiry < time.Millisecond || e.expiry > maxDuration):
			return nil, invalid(field, "(%s %q) must expire after 1ms to %v: %v", e.command, e.key, maxDuration, e.expiry)
		case e.kind != "" && !strings.HasPrefix(e.key, id.ShardKey("")):
			return nil, invalid(field, "(%s %q) must be on a key in the key's shard, made with Stage.ShardKey: %s...",
				e.command, e.key, id.ShardKey(""))
		case e.kind != "" && before != "" && before != e.command:
			return nil, invalid(field, "(%s %q) must not be on the key of another effect, %s", e.command, e.key, before)
		case size > limit:
			return nil, invalid("Outcome.Effects", "are more than MaxValueBytes (%d) long", limit)
		}
	}
	return slices.Clone(effects), nil
}

// effectCalls returns the effects as a commit sends them; nil if there are none.
func effectCalls(effects []Effect) []protocol.Effect {
	if len(effects) == 0 {
		return nil
	}
	calls := make([]protocol.Effect, len(effects))
	for i, e := range effects {
		args := e.args
		switch {
		case e.command == "XADD" && e.maxLen > 0:
			args = append([]string{"MAXLEN", "~", strconv.FormatInt(e.maxLen, 10), "*"}, args...)
		case e.command == "XADD":
			args = append([]string{"*"}, args...)
		}
		calls[i] = protocol.Effect{Type: e.kind, Key: e.key, Expiry: e.expiry, Expires: e.hasExpiry, Command: e.command, Args: args}
	}
	return calls
}

// effectError makes an error of a commit's EFFECT reply.
func effectError(effects []Effect, r protocol.Reply) error {
	n, reason, err := r.RefusedEffect(len(effects))
	if err != nil {
		return err
	}
	return &EffectError{Index: n, Key: effects[n].key, Reason: reason}
}
