package console_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/console"
)

// exampleService returns a service on an embedded Redis, which stands for a production's.
func exampleService() (svc *redisidem.Service, stop func()) {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	svc, err = redisidem.OpenUnchecked("redis://"+server.Addr(), nil)
	if err != nil {
		log.Fatal(err)
	}
	return svc, func() {
		_ = svc.Close(context.Background())
		server.Close()
	}
}

// The console is mounted in the mux of a program, for users with bearer tokens.
func Example() {
	service, stop := exampleService()
	defer stop()

	users, err := console.ReadCredentials(strings.NewReader("viewer bob a-long-secret-of-bob"))
	if err != nil {
		fmt.Println(err)
		return
	}
	pages, err := console.New(redisidem.NewInspector(service), console.Config{Authorize: users.Bearer})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pages.Close() // or with http.Server.RegisterOnShutdown
	mux := http.NewServeMux()
	mux.Handle("/ops/", http.StripPrefix("/ops", pages))

	for _, token := range []string{"a-long-secret-of-bob", "a guess"} {
		request := httptest.NewRequest(http.MethodGet, "/ops/", http.NoBody)
		request.Header.Set("Authorization", "Bearer "+token)
		response := httptest.NewRecorder()
		mux.ServeHTTP(response, request)
		fmt.Println(response.Code, strings.Contains(response.Body.String(), "Keys by state"))
	}
	// Output:
	// 200 true
	// 401 false
}
