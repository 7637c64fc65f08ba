package grpcidem_test

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/alicebob/miniredis/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/redisidem/redisidem/contrib/grpcidem"
	"github.com/redisidem/redisidem/redisidem"
)

// payments is what a generated server interface would be.
type payments interface {
	Charge(ctx context.Context, card *wrapperspb.StringValue) (*wrapperspb.StringValue, error)
}

// paymentsDesc is what protoc would generate for the service.
var paymentsDesc = grpc.ServiceDesc{
	ServiceName: "shop.Payments", HandlerType: (*payments)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Charge",
		Handler: func(server any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			card := new(wrapperspb.StringValue)
			if err := decode(card); err != nil {
				return nil, err
			}
			info := &grpc.UnaryServerInfo{Server: server, FullMethod: "/shop.Payments/Charge"}
			return intercept(ctx, card, info, func(ctx context.Context, req any) (any, error) {
				implementation, ok := server.(payments)
				if !ok {
					return nil, errors.New("another service")
				}
				return implementation.Charge(ctx, req.(*wrapperspb.StringValue))
			})
		},
	}},
}

// shopServer counts the charges.
type shopServer struct{ charges int }

func (s *shopServer) Charge(_ context.Context, card *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	s.charges++
	return wrapperspb.String(fmt.Sprintf("charge %d of %s", s.charges, card.GetValue())), nil
}

// A method runs once for each key, and retries get its answer.
func Example() {
	store, err := miniredis.Run() // stands for a Redis server in production
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	ctx := context.Background()
	svc, err := redisidem.OpenUnchecked("redis://"+store.Addr(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(ctx) }()

	// The scope is the authenticated caller. A server takes it from a token or a certificate.
	idem, err := grpcidem.NewServer(svc, func(context.Context) (string, error) { return "acme", nil }, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(idem.Unary()))
	server.RegisterService(&paymentsDesc, &shopServer{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	call := metadata.AppendToOutgoingContext(ctx, grpcidem.Key, "8e03978e-40d5-43dd-bc93-6894a57f9324")
	for range 2 { // the client's call, and its retry
		var header metadata.MD
		receipt := new(wrapperspb.StringValue)
		err := conn.Invoke(call, "/shop.Payments/Charge", wrapperspb.String("a card"), receipt, grpc.Header(&header))
		fmt.Println(receipt.GetValue(), header.Get(grpcidem.Replayed), err)
	}
	// Output:
	// charge 1 of a card [] <nil>
	// charge 1 of a card [true] <nil>
}
