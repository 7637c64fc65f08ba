package protocol

import (
	"context"
	"errors"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
)

// Claimant is a token that asks for the lease on a key.
type Claimant struct {
	Token string
	// Open means that the token may have the lease, or may get it when a lost try arrives late. A
	// caller that does not use the lease must abandon it then.
	Open bool
}

// Claim asks for the lease on a key: the claim script takes the key's lock and the record. ctx must
// have a deadline.
func (c *Client) Claim(ctx context.Context, claim *Claim, by *Claimant) (Reply, error) {
	r, err := c.obtain(ctx, claim.ID.Lock, c.claimCall(claim, by.Token), by)
	if err == nil && r.Status == StatusLetter && len(r.Texts) > 0 {
		known := *claim
		known.deadLetterOf = r.Texts[0]
		return c.obtain(ctx, claim.ID.Lock, c.claimCall(&known, by.Token), by)
	}
	return r, err
}

// obtain takes a lock through redislock, with the claim script in place of redislock's own. The
// claim's reply is the answer, even if the lock was not obtained.
func (c *Client) obtain(ctx context.Context, lock string, claim Call, by *Claimant) (Reply, error) {
	o := &lockByClaim{client: c, claim: claim}
	err := Repeat(ctx, func(ctx context.Context) error {
		_, err := redislock.New(o).Obtain(ctx, lock, c.lease, &redislock.Options{Token: claim.nonce})
		switch {
		case errors.Is(err, redislock.ErrNotObtained):
			return nil
		case redis.IsTryAgainError(err) && claim.stepwise:
			o.reply, err = c.claimInSteps(ctx, claim)
		}
		err = wrongType(err)
		by.Open = by.Open || err != nil && o.sent && !IsDamaged(err)
		return err
	})
	return o.reply, err
}

// lockByClaim is the client that redislock takes a lock through. It runs the claim script, which
// takes the lock with the same name, value and expiry if it grants the lease, and not otherwise.
type lockByClaim struct {
	redis.Scripter // nil: redislock's Obtain uses only EvalSha when that has an answer
	client         *Client
	claim          Call
	sent           bool // a server may have run the claim
	reply          Reply
}

// EvalSha implements [redis.Scripter].
func (o *lockByClaim) EvalSha(ctx context.Context, _ string, _ []string, _ ...any) *redis.Cmd {
	var err error
	o.reply, err = o.client.once(ctx, o.claim)
	o.sent = o.sent || err == nil || !unsent(err)
	switch {
	case err != nil:
		return failed(ctx, err)
	case o.reply.Status == StatusOwn:
		return obtained
	}
	return notObtained
}

// The answers to redislock that are always the same. Nothing writes to them.
var (
	obtained    = redis.NewCmd(context.Background())
	notObtained = failed(context.Background(), redis.Nil)
)

// failed returns a command with an error.
func failed(ctx context.Context, err error) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(err)
	return cmd
}

// lockAlone is the client that redislock takes a lock through when no claim follows it.
type lockAlone struct {
	redis.Scripter // nil: redislock's Obtain uses only the methods below
	client         *Client
}

// EvalSha implements [redis.Scripter].
func (l lockAlone) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return l.send(ctx, keys[0], evaluation(ctx, "evalsha", sha, keys, args))
}

// Eval implements [redis.Scripter].
func (l lockAlone) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return l.send(ctx, keys[0], evaluation(ctx, "eval", script, keys, args))
}

func (l lockAlone) send(ctx context.Context, key string, cmd *redis.Cmd) *redis.Cmd {
	if _, err := l.client.sendDurably(ctx, key, cmd); err != nil {
		return failed(ctx, err) // go-redis may still write to the one that was sent
	}
	return cmd
}

// evaluation makes the command that redislock asks for.
func evaluation(ctx context.Context, verb, script string, keys []string, args []any) *redis.Cmd {
	words := make([]any, 0, 3+len(keys)+len(args))
	words = append(words, verb, script, len(keys))
	for _, k := range keys {
		words = append(words, k)
	}
	return redis.NewCmd(ctx, append(words, args...)...)
}
