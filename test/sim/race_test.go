//go:build race

package sim

// raced reports whether the race detector is on. It makes Go's scheduler random, so tests then do
// not depend on its order.
const raced = true
