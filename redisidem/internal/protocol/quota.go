package protocol

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
)

// Share is what a process reports about its share of a scope's quota, and what it asks for.
type Share struct {
	Scope string
	ID    string // of the share
	Call  int64  // the number of the call, which grows with each
	Lasts time.Duration
	// InFlight is how many requests are in flight, and Waiting how many wait for a place.
	InFlight, Waiting int
	// Requests and Records are about the places for requests in flight and for new records.
	Requests, Records Places
	// Made is how many records were made under the share. Confirmed is how many of these a reply
	// has confirmed.
	Made, Confirmed int64
	Window          time.Duration // how long a record counts
}

// Places are one kind of places of a share.
type Places struct {
	Limit int // of the scope; 0 for none
	Kept  int // the places that the process goes on to use, whatever the reply
}

// NewShare makes the call that takes, renews and changes a share.
func (c *Client) NewShare(s *Share) Call {
	call := newCall(lua.Quota, NewToken(), QuotaKey(c.namespace, s.Scope))
	call.add(s.ID, s.Call, s.Lasts.Milliseconds(), s.InFlight, s.Waiting, s.Requests.Limit, s.Requests.Kept, s.Records.Limit, s.Records.Kept,
		s.Made, s.Confirmed, s.Window.Milliseconds())
	return call
}

// NewGiveBack makes the call that gives a share back.
func (c *Client) NewGiveBack(s *Share) Call {
	back := *s
	back.Lasts = 0
	return c.NewShare(&back)
}

// Shared is the reply to a call of NewShare.
type Shared struct {
	Requests, SpareRequests int // the places of the share, and how many of them are spare
	Records, SpareRecords   int
	InFlight, Made          int           // the use of the scope by all processes
	Until                   time.Duration // until fewer records count; 0 if none do
}

// Shared reads the OK reply to a call of NewShare.
func (r Reply) Shared() (s Shared, err error) {
	words := strings.Split(r.numbers, " ")
	to := []*int{&s.Requests, &s.SpareRequests, &s.Records, &s.SpareRecords, &s.InFlight, &s.Made}
	if len(words) <= len(to) {
		return s, &DamagedError{"the reply about a share is too short"}
	}
	for i, n := range to {
		if *n, err = strconv.Atoi(words[i]); err != nil {
			return s, &DamagedError{"a share is not a number"}
		}
	}
	ms, err := parseCount("time until fewer records count", words[len(to)])
	s.Until = remaining(ms)
	return s, err
}

// ScopeUse is the use of a scope's quota by all processes.
type ScopeUse struct {
	Processes                             int
	InFlight, InFlightHeld, InFlightLimit int
	Stored, StoredHeld, StoredLimit       int
}

// ScopeUse reads the use of a scope's quota. ctx must have a deadline.
func (c *Client) ScopeUse(ctx context.Context, scope string) (use ScopeUse, err error) {
	key := QuotaKey(c.namespace, scope)
	err = Repeat(ctx, func(ctx context.Context) error {
		all, now := redis.NewMapStringStringCmd(ctx, "hgetall", key), redis.NewTimeCmd(ctx, "time")
		if err := c.sendTogether(ctx, all, now); err != nil {
			return err
		}
		use = scopeUse(all.Val(), now.Val().UnixMilli())
		return nil
	})
	return use, wrongType(err)
}

// scopeUse reads the hash that the share script writes. It leaves out fields of another form.
func scopeUse(all map[string]string, now int64) (use ScopeUse) {
	for field, value := range all {
		if end, ok := strings.CutPrefix(field, "c:"); ok {
			ends, err := strconv.ParseInt(end, 10, 64)
			n, err1 := strconv.Atoi(value)
			if err == nil && err1 == nil && ends > now {
				use.Stored += n
			}
			continue
		}
		var words [10]int64
		texts := strings.Fields(value)
		ok := strings.HasPrefix(field, "s:") && len(texts) == len(words)
		for i := range words {
			if ok {
				n, err := parseCount("share", texts[i])
				words[i], ok = n, err == nil
			}
		}
		if !ok || words[1] <= now || words[6]+words[9] == 0 { // the last is one that was given back
			continue
		}
		use.Processes++
		use.InFlight += int(words[3])
		use.InFlightHeld += int(words[4])
		use.InFlightLimit = max(use.InFlightLimit, int(words[6]))
		use.StoredHeld += int(words[7])
		use.StoredLimit = max(use.StoredLimit, int(words[9]))
	}
	return use
}
