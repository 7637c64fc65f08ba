package result

// Promise is what a contender keeps of the promise that a request runs once.
type Promise struct {
	Contender string `json:"contender"`
	Title     string `json:"title"`
	Own       bool   `json:"own,omitempty"`
	// Callers sent one request at once, through two replicas. Runs is how often it ran, and Answers
	// how many different answers they got.
	Callers int `json:"callers"`
	Runs    int `json:"runs"`
	Answers int `json:"answers"`
	// LateFirst and LateLast are what became of a worker whose lease ended during its work, while
	// another worker had the request: when it was ready before the other one, and after it. Each is
	// the worst of several tries.
	LateFirst Late `json:"late_first,omitempty"`
	LateLast  Late `json:"late_last,omitempty"`
	// Error is the reason why there is no result. Skipped reports whether the contender could not
	// take part on this server.
	Error   string `json:"error,omitempty"`
	Skipped bool   `json:"skipped,omitempty"`
}

// Late is what became of a worker whose lease had ended.
type Late string

// The ends of a late worker.
const (
	LateRefused Late = "refused" // it got an error, and the holder's answer is stored
	LateUnaware Late = "unaware" // it got no error, but the holder's answer is stored
	LateStored  Late = "stored"  // its answer is stored, and the holder's is lost
)

// Ran reports whether the request ran once, with one answer for all callers.
func (p *Promise) Ran() bool { return p.Error == "" && p.Runs == 1 && p.Answers == 1 }

// Fenced reports whether late workers were refused.
func (p *Promise) Fenced() bool {
	return p.Error == "" && p.LateFirst == LateRefused && p.LateLast == LateRefused
}

// Kept reports whether the contender keeps the promise.
func (p *Promise) Kept() bool { return p.Ran() && p.Fenced() }
