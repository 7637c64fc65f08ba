package redisidem

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
)

// While a cluster moves a slot its keys are on two nodes. A command with one key finds the right one, a command with several
// is told TRYAGAIN. What follows does the work of such a command in steps with one key each. The record stays the truth: the
// lock is taken before the record says so and given back behind it, and each step may be the last.

// alone returns the call without any key but the record.
func (c call) alone() call {
	c.words = slices.Concat(c.words[:2], []any{1}, c.words[3:4], c.words[3+c.keys:])
	c.keys, c.lock = 1, ""
	return c
}

// runSplit does what a call does, in steps.
func (s *Service) runSplit(ctx context.Context, c call) (reply, error) {
	one := c.alone()
	taken, keep := false, c.script.Name == lua.Renew.Name
	if c.script.Name == lua.Commit.Name {
		flags, _ := c.words[c.arg(commitFlags)].(string)
		keep = strings.Contains(flags, flagKeep)
	}
	if keep {
		var err error
		if taken, err = s.takeLock(ctx, c); err != nil {
			return reply{}, err
		}
		switch {
		case taken:
		case c.script.Name == lua.Renew.Name:
			return reply{status: statusLost}, nil
		default:
			one.words[one.arg(commitFlags)] = c.withoutKeep() // stored all the same, and the lease ends
		}
	}
	r, err := s.once(ctx, one)
	if err != nil {
		return r, err
	}
	if !taken || r.status != statusOK {
		s.releaseLock(ctx, c)
	}
	if keep && !taken && r.status == statusOK {
		_, at, _ := strings.Cut(r.numbers, " ")
		r.numbers = "0 " + at // an earlier try has kept the lease, which is lost since
	}
	return r, nil
}

// claimSplit does what a claim does, in steps: it looks at the record, takes the lock, and has the record say so if it is still
// the same. Whoever had a lease when the lock was taken has lost it; whoever got one since has changed the record.
func (s *Service) claimSplit(ctx context.Context, c call) (reply, error) {
	before, err := s.control(ctx, c.key)
	if err != nil {
		return reply{}, err
	}
	taken, err := s.takeLock(ctx, c)
	if err != nil {
		return reply{}, err
	}
	if !taken {
		before = ""
	}
	one := c.alone()
	one.words[one.arg(claimAge)] = before
	r, err := s.once(ctx, one)
	switch {
	case err != nil:
		return r, err
	case r.status == statusOwn:
		return r, nil
	case r.status == statusBusy && taken:
		return r, errAgain
	case r.status == statusBusy:
		left, err := s.lockLeft(ctx, c.lock)
		r.numbers = left
		return r, err
	}
	if taken {
		s.releaseLock(ctx, c)
	}
	return r, nil
}

// claimAge is the number of the argument of a claim that takes the control seen before.
const claimAge = 9

// noControl is what the claim script takes for the control of a record that is not there.
const noControl = "-"

// control reads the field of a record that changes with each lease.
func (s *Service) control(ctx context.Context, record string) (string, error) {
	cmd := redis.NewStringCmd(ctx, "hget", record, "control")
	if err := s.send1(ctx, false, record, cmd); err != nil {
		return "", err
	}
	if errors.Is(cmd.Err(), redis.Nil) {
		return noControl, nil
	}
	return cmd.Val(), nil
}

func (s *Service) lockLeft(ctx context.Context, lock string) (string, error) {
	cmd := redis.NewIntCmd(ctx, "pttl", lock)
	err := s.send1(ctx, false, lock, cmd)
	return strconv.FormatInt(max(cmd.Val(), 0), 10), err
}

func (s *Service) send1(ctx context.Context, durable bool, key string, cmd redis.Cmder) error {
	_, err := s.send(ctx, durable, key, []redis.Cmder{cmd})
	return err
}

// takeLock obtains the lock of a call's token, or has it last a whole lease again. It reports false when it is another's.
func (s *Service) takeLock(ctx context.Context, c call) (bool, error) {
	_, err := redislock.New(locker{service: s}).Obtain(ctx, c.lock, s.cfg.Lease, &redislock.Options{Token: c.nonce})
	if errors.Is(err, redislock.ErrNotObtained) {
		return false, nil
	}
	return err == nil, err
}

// releaseLock gives the lock of a call's token back. When that fails the lock lapses.
func (s *Service) releaseLock(ctx context.Context, c call) {
	cmd := redis.NewCmd(ctx, "eval", releaseLock, 1, c.lock, c.nonce)
	_ = s.send1(ctx, false, c.lock, cmd)
}

// releaseLock is in place of redislock's own release, which begins with an obtained lock.
const releaseLock = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`

// locker is the client that redislock takes a lock through when nothing follows it.
type locker struct {
	redis.Scripter // none of the methods that redislock's Obtain does not use
	service        *Service
}

// EvalSha implements [redis.Scripter].
func (l locker) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return l.eval(ctx, "evalsha", sha, keys, args)
}

// Eval implements [redis.Scripter].
func (l locker) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return l.eval(ctx, "eval", script, keys, args)
}

func (l locker) eval(ctx context.Context, verb, script string, keys []string, args []any) *redis.Cmd {
	cmd := evaluation(ctx, verb, script, keys, args)
	if err := l.service.send1(ctx, true, keys[0], cmd); err != nil {
		failed := redis.NewCmd(ctx, verb) // the one that was sent may still be written to
		failed.SetErr(err)
		return failed
	}
	return cmd
}
