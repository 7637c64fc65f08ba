// Package result holds the results of a run of the benchmark, as they are stored in JSON.
package result

import "time"

// Run is one run of the benchmark.
type Run struct {
	// Schema is the version of this format.
	Schema  int       `json:"schema"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"` // duration of the run
	Command []string  `json:"command"` // the arguments of the program
	// Incomplete reports whether the run was interrupted or failed. Such a run holds the results so
	// far.
	Incomplete bool `json:"incomplete,omitempty"`
	// SampleSeconds is the planned length of each sample. Latency is the number of milliseconds
	// added to each round trip.
	SampleSeconds float64 `json:"sample_seconds"`
	Latency       float64 `json:"latency,omitempty"`
	Machine       Machine `json:"machine"`
	// Measured is false on the embedded server, where the numbers are meaningless.
	Measured  bool       `json:"measured"`
	Promises  []Promise  `json:"promises,omitempty"`
	Scenarios []Scenario `json:"scenarios"`
	Figures   []Figure   `json:"figures,omitempty"`
}

// Machine describes where a run took place.
type Machine struct {
	OS       string `json:"os"`
	CPU      string `json:"cpu"`   // the processor's name
	Cores    int    `json:"cores"` // shared by the benchmark and, on the same machine, the server
	Go       string `json:"go"`
	Server   string `json:"server"`   // such as "Redis 7.0.15"
	Topology string `json:"topology"` // standalone, cluster, sentinel or embedded
	Version  string `json:"version"`  // of this library: the commit that was built, if it is known
	// LoadBefore and LoadAfter are the averages of ready processes over the minute before the run
	// and its last minute. 0: unknown.
	LoadBefore float64 `json:"load_before,omitempty"`
	LoadAfter  float64 `json:"load_after,omitempty"`
}

// Scenario is one kind of load, with all contenders that took part.
type Scenario struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	About string `json:"about"`
	// Timed reports whether the latency covers only a part of the operation. Throughput is then
	// meaningless.
	Timed bool `json:"timed,omitempty"`
	// Points are the results: one for each contender at each number of callers, body size, and so
	// on.
	Points []Point `json:"points"`
}

// Point is one contender under one load.
type Point struct {
	Contender string  `json:"contender"` // short name
	Title     string  `json:"title"`
	About     string  `json:"about"`
	Own       bool    `json:"own,omitempty"`      // this library in any form
	Replays   bool    `json:"replays,omitempty"`  // it can replay a response, unlike a yardstick
	Baseline  bool    `json:"baseline,omitempty"` // the other points' ratios are against this one
	Callers   int     `json:"callers"`
	BodyBytes int     `json:"body_bytes"`        // 0: the sizes that the scenario describes
	Records   int64   `json:"records,omitempty"` // the number of records on the server before
	Rate      float64 `json:"rate,omitempty"`    // offered operations per second; 0 in a closed loop
	// Samples are the repetitions, in the order of the run. The i-th samples of all contenders of a
	// scenario were taken one after the other, in rotating order.
	Samples []Sample `json:"samples"`
	// Cost covers all samples.
	Cost Cost `json:"cost"`
	// Ratio is the throughput divided by the baseline's at the same load, repetition by repetition.
	// It is nil for the baseline, open loops and timed scenarios.
	Ratio *Spread `json:"ratio,omitempty"`
	// Error is the reason why there are no results.
	Error string `json:"error,omitempty"`
	// Skipped reports whether the contender could not take part on this server. That is not a
	// failure. Error gives the reason.
	Skipped bool `json:"skipped,omitempty"`
}

// Sample is one repetition.
type Sample struct {
	Operations int64   `json:"operations"` // whose result was read and checked
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"per_second"`
	Latency    Latency `json:"latency"`
}

// Latency is in microseconds. In an open loop it counts from the time at which the operation was
// due.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// Cost is the cost of one operation. Zero means unknown, except for numbers that come from counting
// the connections.
type Cost struct {
	// Blind reports whether some connections were not counted. Round trips and, on the embedded
	// server, bytes are then unknown.
	Blind        bool    `json:"blind,omitempty"`
	RoundTrips   float64 `json:"round_trips"` // as seen by one caller
	BytesIn      float64 `json:"bytes_in"`    // received by the server
	BytesOut     float64 `json:"bytes_out"`
	ServerCPU    float64 `json:"server_cpu"` // microseconds, from the server's own statistics
	ClientCPU    float64 `json:"client_cpu"` // microseconds, of the whole process
	Allocations  float64 `json:"allocations"`
	AllocBytes   float64 `json:"alloc_bytes"`
	RecordMemory float64 `json:"record_memory"` // bytes on the server for each record that an operation left
}

// Counted reports whether a number that comes from counting the connections is known, even if it is
// zero.
func (c *Cost) Counted(f float64) bool { return f != 0 || !c.Blind }

// Spread is the median of several values, and their lowest and highest.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// Figure is one of the project's figures.
type Figure struct {
	Number int     `json:"number"` // parts of one figure share it
	Title  string  `json:"title"`
	Value  float64 `json:"value"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Bound  float64 `json:"bound"`
	// AtMost reports whether the bound is an upper bound. Otherwise it is a lower bound.
	AtMost bool   `json:"at_most"`
	Unit   string `json:"unit"` // such as "x"
	Pass   bool   `json:"pass"`
}
