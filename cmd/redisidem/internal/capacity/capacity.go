// Package capacity calculates what a deployment needs, from what one operation was measured to
// cost.
package capacity

import (
	"math"
	"time"
)

// Load is what a deployment has to carry.
type Load struct {
	Rate      float64       // first executions per second
	Stages    int           // of each, at least 1
	Replays   float64       // per second, read from Redis
	Retention time.Duration // of finished records
	Response  int           // bytes of a stored response
	Work      time.Duration // that the callbacks of a first execution take together
	Lease     time.Duration
	RoundTrip time.Duration // between a process and Redis
	Callers   int           // that work at the same time in one process
	Replicas  int           // of each master
}

// Server is what one master offers.
type Server struct {
	Busy    float64 // the share of its main thread's time that may be in use, above 0 and at most 1
	Memory  float64 // bytes for records
	Network float64 // bytes per second in each direction
}

// Need is what a deployment needs.
type Need struct {
	Records     float64 // that exist at the same time
	RecordBytes float64 // of memory for each
	Memory      float64 // bytes, of all masters together

	// Received and Sent are the bytes per second of all masters together. Sent includes what their
	// replicas get, which is about what the writes of the clients had.
	Received, Sent float64

	// Masters is how many are needed for all of the three that follow, which are fractions.
	Masters                     int
	ByTime, ByMemory, ByNetwork float64

	Trips     int           // round trips of a first execution to Redis
	Added     time.Duration // that they add to its latency
	InFlight  float64       // first executions that are under way at the same time
	Renewals  float64       // of leases, per second
	Processes int           // with Callers each
	Cores     float64       // that the library uses in all processes together
}

// Of calculates what a load needs, on servers of one kind.
func Of(l *Load, s *Server) Need {
	n := Need{Records: l.Rate * l.Retention.Seconds(), RecordBytes: recordBytes(l.Response)}
	n.Memory = n.Records * n.RecordBytes

	n.Trips = first.trips + (l.Stages-1)*stage.trips
	n.Added = time.Duration(n.Trips) * l.RoundTrip
	n.InFlight = l.Rate * (l.Work + n.Added).Seconds()
	if every := l.Lease / 3; l.Work/time.Duration(l.Stages) > every {
		n.Renewals = n.InFlight / every.Seconds()
	}
	n.Processes = whole(n.InFlight / float64(l.Callers))

	later := l.Rate*float64(l.Stages-1) + n.Renewals
	sum := func(of func(*cost) float64) float64 {
		return l.Rate*of(&first) + later*of(&stage) + l.Replays*of(&replay)
	}
	body := float64(l.Response)
	n.Received = sum(func(c *cost) float64 { return c.received }) + l.Rate*body
	written := n.Received - l.Replays*replay.received
	n.Sent = sum(func(c *cost) float64 { return c.sent }) + l.Replays*body + float64(l.Replicas)*written
	n.Cores = sum(func(c *cost) float64 { return c.client }) / 1e6

	n.ByTime = sum(func(c *cost) float64 { return c.server }) / 1e6 / s.Busy
	n.ByMemory = n.Memory / s.Memory
	n.ByNetwork = max(n.Received, n.Sent) / s.Network
	n.Masters = whole(max(n.ByTime, n.ByMemory, n.ByNetwork))
	return n
}

// whole returns the smallest number of things that is enough, and at least one.
func whole(f float64) int { return int(math.Max(1, math.Ceil(f))) }
