//go:build !race

package sim

// raced says that the race detector is on. Go's scheduler is random then, so that tests do not
// depend on its order.
const raced = false
