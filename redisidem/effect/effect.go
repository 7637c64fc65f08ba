package effect

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// MaxWords bounds the fields, members or values of one effect, because Lua can pass only a limited
// number to a command.
const MaxWords = 1000

// maxExpiry keeps sums of times well within the range in which Lua's numbers are exact.
const maxExpiry = 100 * 365 * 24 * time.Hour

// maxIncrement keeps sums well below the overflow of 64 bits, which would fail in the middle of a
// commit.
const maxIncrement = 999_999_999_999_999

// Effect is a write to Redis that an outcome carries. Make one with [Set], [IncrBy], [HSet],
// [SAdd], [ZAdd], [LPush], [XAdd] or [Publish]; the zero Effect is invalid. It is a value: its
// methods return changed copies.
//
// The commit checks the types of all keys before it writes. If a key has another type than its
// effect needs, the commit returns an EffectError of package redisidem and stores nothing of the
// outcome.
type Effect struct {
	command string
	keyType string
	key     string
	words   []string
	expiry  time.Duration
	expires bool
	maxLen  int64
	err     error
}

// Set makes an effect that sets a string. It removes the key's expiry; [Effect.Expire] sets a new
// one.
func Set(key, value string) Effect {
	return Effect{command: "SET", keyType: "string", key: key, words: []string{value}}
}

// IncrBy makes an effect that adds n to a whole number. A negative n subtracts. The number and n
// may have at most 15 digits.
func IncrBy(key string, n int64) Effect {
	e := Effect{command: "INCRBY", keyType: "string", key: key, words: []string{strconv.FormatInt(n, 10)}}
	if n > maxIncrement || n < -maxIncrement {
		e.err = fmt.Errorf("n has more than 15 digits: %d", n)
	}
	return e
}

// HSet makes an effect that sets fields of a hash. The pairs are field, value, ...
func HSet(key string, pairs ...string) Effect {
	return Effect{command: "HSET", keyType: "hash", key: key, words: slices.Clone(pairs), err: checkPairs(pairs)}
}

// SAdd makes an effect that adds members to a set.
func SAdd(key string, members ...string) Effect {
	return Effect{command: "SADD", keyType: "set", key: key, words: slices.Clone(members), err: checkNotEmpty(members)}
}

// ZAdd makes an effect that adds a member to a sorted set, or changes its score.
func ZAdd(key string, score float64, member string) Effect {
	words := []string{strconv.FormatFloat(score, 'g', -1, 64), member}
	e := Effect{command: "ZADD", keyType: "zset", key: key, words: words}
	if math.IsNaN(score) || math.IsInf(score, 0) {
		e.err = fmt.Errorf("score is not a finite number: %v", score)
	}
	return e
}

// LPush makes an effect that inserts values at the head of a list, one after the other, so that the
// last one comes first.
func LPush(key string, values ...string) Effect {
	return Effect{command: "LPUSH", keyType: "list", key: key, words: slices.Clone(values), err: checkNotEmpty(values)}
}

// XAdd makes an effect that appends an entry to a stream. The pairs are field, value, ... One
// stream per shard is an outbox: the entry exists if and only if its stage was committed.
func XAdd(key string, pairs ...string) Effect {
	return Effect{command: "XADD", keyType: "stream", key: key, words: slices.Clone(pairs), err: checkPairs(pairs)}
}

// Publish makes an effect that publishes a message to the current subscribers of a channel. Later
// subscribers do not receive it: use [XAdd] for messages that must not get lost. The channel may
// have any name.
func Publish(channel, message string) Effect {
	return Effect{command: "PUBLISH", key: channel, words: []string{message}}
}

// Expire returns the effect with an expiry of its key, counted from the commit. The expiry is at
// least 1 ms and is rounded down to whole milliseconds. A [Publish] cannot have one.
func (e Effect) Expire(d time.Duration) Effect {
	e.expiry, e.expires = d, true
	return e
}

// MaxLen returns the [XAdd] with a bound for its stream: the commit trims the stream to about n
// entries, and never to fewer. The bound n is at least 1. Other effects cannot have it.
func (e Effect) MaxLen(n int64) Effect {
	if e.command != "XADD" || n < 1 {
		e.err = fmt.Errorf("MaxLen is for XAdd and at least 1: %d", n)
	}
	e.maxLen = n
	return e
}

// Command returns the Redis command of the effect in upper case, or "" for the zero Effect.
func (e Effect) Command() string { return e.command }

// Key returns the Redis key that the effect writes to, or the channel of a [Publish].
func (e Effect) Key() string { return e.key }

// KeyType returns the type that an existing key must have, as the command TYPE names it. It returns
// "" for a [Publish], which does not have a key.
func (e Effect) KeyType() string { return e.keyType }

// Args returns the arguments of the command after the key or channel. The caller must not change
// them.
func (e Effect) Args() []string {
	switch {
	case e.command != "XADD":
		return e.words
	case e.maxLen > 0:
		return append([]string{"MAXLEN", "~", strconv.FormatInt(e.maxLen, 10), "*"}, e.words...)
	}
	return append([]string{"*"}, e.words...)
}

// Expiry returns the argument of [Effect.Expire], and whether the effect has one.
func (e Effect) Expiry() (time.Duration, bool) { return e.expiry, e.expires }

// Size returns the total bytes of the key and the values.
func (e Effect) Size() int {
	n := len(e.key)
	for _, w := range e.words {
		n += len(w)
	}
	return n
}

// Err returns why the effect is invalid, or nil if it is valid. It does not check the key.
func (e Effect) Err() error {
	switch {
	case e.command == "":
		return fmt.Errorf("must be made by a function of package effect")
	case e.err != nil:
		return e.err
	case len(e.words) > MaxWords:
		return fmt.Errorf("has %d words, more than %d", len(e.words), MaxWords)
	case e.expires && e.keyType == "":
		return fmt.Errorf("cannot expire: it has no key")
	case e.expires && (e.expiry < time.Millisecond || e.expiry > maxExpiry):
		return fmt.Errorf("must expire after 1ms to %v: %v", maxExpiry, e.expiry)
	}
	return nil
}

func checkPairs(pairs []string) error {
	if len(pairs) == 0 || len(pairs)%2 != 0 {
		return fmt.Errorf("needs pairs of field and value, not %d words", len(pairs))
	}
	return nil
}

func checkNotEmpty(values []string) error {
	if len(values) == 0 {
		return fmt.Errorf("needs at least one value")
	}
	return nil
}
