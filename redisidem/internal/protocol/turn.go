package protocol

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
)

// Quiet is how long it takes at least until a key of a flow is due that was not in the due index
// yet.
type Quiet struct {
	Flow string // its name
	For  time.Duration
}

// Turn is a turn to scan flows for due keys.
type Turn struct {
	Flows  []string // their names
	Paused []string // the flows and versions that are paused, as name or name/version
	nonce  string
	began  string // the server's time, in milliseconds
}

// TakeTurns asks for this process's turn to scan flows. A turn lasts for length. It does not get
// the flows whose turn another process has and ends earlier, nor those whose last scan shows that
// no key can be due, nor those that are paused. Without flows it only asks for the pauses. ctx must
// have a deadline.
func (c *Client) TakeTurns(ctx context.Context, flows []Quiet, length time.Duration) (Turn, error) {
	call := newCall(lua.Turn, NewToken(), TurnsKey(c.namespace))
	call.add(length.Milliseconds())
	for _, f := range flows {
		call.add(f.Flow, f.For.Milliseconds())
	}
	r, err := c.Run(ctx, call)
	if err != nil {
		return Turn{}, err
	}
	if r.Status != StatusOK {
		return Turn{}, r.Unexpected()
	}
	mine := 0
	if len(r.Texts) > 0 {
		if mine, err = strconv.Atoi(r.number(1)); err != nil || mine < 0 || mine > len(r.Texts) {
			return Turn{}, errTexts
		}
	}
	return Turn{Flows: r.Texts[:mine], Paused: r.Texts[mine:], nonce: call.nonce, began: r.number(0)}, nil
}

// Rest is the result of a scan of all shards of a flow.
type Rest struct {
	Flow  string // its name
	First int64  // the lowest score that the scan left; [Empty] for none
}

// NewRest makes the call that remembers the results of scans of a turn. It has no effect on flows
// whose turn has been another one since, or that were woken.
func (c *Client) NewRest(t Turn, flows ...Rest) Call {
	call := newCall(lua.Rest, t.nonce, TurnsKey(c.namespace))
	call.add(t.began)
	for _, f := range flows {
		if f.First == Empty {
			call.add(f.Flow, "-")
		} else {
			call.add(f.Flow, f.First)
		}
	}
	return call
}

// Wake makes the next process with a turn scan a flow. ctx must have a deadline.
func (c *Client) Wake(ctx context.Context, flow string) error {
	key := TurnsKey(c.namespace)
	return Repeat(ctx, func(ctx context.Context) error {
		return c.send(ctx, redis.NewIntCmd(ctx, "hdel", key, flow))
	})
}
