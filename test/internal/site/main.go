// Command site checks a built site: each link and each anchor of its pages resolves, and each page
// can be reached from the first one. Its argument is the folder of the site. It prints each place
// that is wrong and one line of summary. Its exit status is 1 if there is such a place. Links to
// other sites are not followed.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: site FOLDER")
		os.Exit(2)
	}
	found, err := check(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "site:", err)
		os.Exit(2)
	}
	for _, problem := range found.problems {
		fmt.Println(problem)
	}
	fmt.Printf("%d pages with %d links, %d problems\n", found.pages, found.links, len(found.problems))
	if len(found.problems) > 0 {
		os.Exit(1)
	}
}
