package httpidem

import "sync"

// countAsWaiting counts the request as waiting. If MaxWaiting is reached, it turns the waiting off
// instead. The function that it returns ends the count.
func (x *keyedRequest) countAsWaiting() func() {
	m := x.middleware
	if m.cfg.Wait <= 0 {
		return func() {}
	}
	if m.waiting.Add(1) > int64(m.cfg.MaxWaiting) {
		x.scope = x.scope.Wait(0)
	}
	return sync.OnceFunc(func() { m.waiting.Add(-1) })
}
