package report

import (
	"fmt"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// look is the style of a contender's drawings. Each of this library's own contenders has a colour.
// The others are grey, each with its own shape.
type look struct {
	Class string
	Own   bool
	shape int
}

// shapes is the number of shapes.
const shapes = 6

// looks assigns a look to each contender of a run, for all charts.
func looks(r *result.Run) map[string]look {
	all := make(map[string]look)
	own, others := 0, 0
	for _, s := range r.Scenarios {
		for i := range s.Points {
			p := &s.Points[i]
			if _, ok := all[p.Contender]; ok {
				continue
			}
			if p.Own {
				all[p.Contender] = look{Class: fmt.Sprint("own o", own%4), Own: true, shape: own % shapes}
				own++
			} else {
				all[p.Contender] = look{Class: fmt.Sprint("other r", others%8), shape: others % shapes}
				others++
			}
		}
	}
	return all
}

// mark is a shape at a position, with its description.
type mark struct {
	Class string
	Path  string
	Tip   string
}

// outline returns the path of a shape around a position.
func outline(shape int, x, y, r float64) string {
	switch shape % shapes {
	case 1: // square
		return fmt.Sprintf("M%.1f %.1fh%.1fv%.1fh-%.1fz", x-r*.9, y-r*.9, 1.8*r, 1.8*r, 1.8*r)
	case 2: // triangle
		return fmt.Sprintf("M%.1f %.1fl%.1f %.1fh-%.1fz", x, y-1.15*r, 1.15*r, 2*r, 2.3*r)
	case 3: // diamond
		return fmt.Sprintf("M%.1f %.1fl%.1f %.1fl-%.1f %.1fl-%.1f -%.1fz", x, y-1.3*r, 1.3*r, 1.3*r, 1.3*r, 1.3*r, 1.3*r, 1.3*r)
	case 4: // triangle on its head
		return fmt.Sprintf("M%.1f %.1fl%.1f -%.1fh-%.1fz", x, y+1.15*r, 1.15*r, 2*r, 2.3*r)
	case 5: // cross
		a := r * .45
		return fmt.Sprintf("M%.1f %.1fh%.1fv%.1fh%.1fv%.1fh-%.1fv%.1fh-%.1fv-%.1fh-%.1fv-%.1fh%.1fz",
			x-a, y-1.2*r, 2*a, 1.2*r-a, 1.2*r-a, 2*a, 1.2*r-a, 1.2*r-a, 2*a, 1.2*r-a, 1.2*r-a, 2*a, 1.2*r-a)
	default: // circle
		return fmt.Sprintf("M%.1f %.1fa%.1f %.1f 0 1 0 %.1f 0a%.1f %.1f 0 1 0 -%.1f 0z", x-r, y, r, r, 2*r, r, r, 2*r)
	}
}
