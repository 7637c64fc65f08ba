package capacity

// Measured is when and where the constants below were measured.
const Measured = "29 November 2026 with Redis 7.0.15, on 2 cores of an Intel Xeon that server and client shared"

// cost is what an operation costs. Processor time is in microseconds. Received and sent are the
// bytes that the server gets and returns, without those of the response.
type cost struct {
	trips          int
	server, client float64
	received, sent float64
}

// The costs are of 256 callers with auto-pipelining. The client's time includes the benchmark's
// own. The commands are
//
//	bench -s lifecycle,replay,flow -c redisidem-auto --callers 256 --repetitions 9
//	bench -s lifecycle -c redisidem-auto --callers 256 --body 20,200,1024,4096,16384
//
// and the cost of a further stage is a third of what a flow of four stages costs more than one
// execution. The renewal of a lease costs less than a stage, and counts as one.
var (
	first  = cost{trips: 2, server: 46.7, client: 47.4, received: 889, sent: 105}
	stage  = cost{trips: 1, server: 29.2, client: 17.7, received: 464, sent: 51}
	replay = cost{trips: 1, server: 36.6, client: 31.5, received: 487, sent: 386}
)

// memory is how much memory a finished record takes, by the size of its response, both in bytes.
var memory = []struct{ response, record float64 }{
	{20, 1104}, {200, 1296}, {1024, 2352}, {4096, 6192}, {16384, 21552},
}

// recordBytes returns the memory of a finished record: between the measured sizes by a straight
// line, and beyond the last with that line's slope.
func recordBytes(response int) float64 {
	size, i := float64(response), 1
	for i < len(memory)-1 && size > memory[i].response {
		i++
	}
	from, to := memory[i-1], memory[i]
	return from.record + (max(size, memory[0].response)-from.response)*(to.record-from.record)/(to.response-from.response)
}
