package history

import "strings"

// link separates the tokens of a chain.
const link = "."

// Chain is the sequence of a key's commits: the tokens of the callbacks whose results were
// accepted, in order. Each callback finds it in the state of the previous stage, and the last
// callback makes it the answer. The answer therefore shows which result was accepted at each
// revision.
type Chain string

// Add returns the chain with one more token.
func (c Chain) Add(token string) Chain {
	if c == "" {
		return Chain(token)
	}
	return c + Chain(link+token)
}

// tokens returns the tokens in order.
func (c Chain) tokens() []string {
	if c == "" {
		return nil
	}
	return strings.Split(string(c), link)
}

// upTo returns the chain as it was when the key had this many commits.
func (c Chain) upTo(revision int64) Chain {
	all := c.tokens()
	return Chain(strings.Join(all[:min(int(revision), len(all))], link))
}
