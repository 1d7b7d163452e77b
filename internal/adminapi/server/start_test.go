package server_test

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/adminapi/server"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// TestStart listens on the loopback addresses alone, with TLS 1.3, and releases them at its end.
func TestStart(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	_ = free.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	api := server.New(server.Options{Port: port})
	if api.NeedLeaderElection() {
		t.Error("a replica that does not lead would not serve")
	}
	go func() { ended <- api.Start(ctx) }()
	address := func(host string) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
	eventually.Succeeds(t, func(context.Context) error {
		connection, err := tls.Dial("tcp", address("127.0.0.1"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err
		}
		if version := connection.ConnectionState().Version; version != tls.VersionTLS13 {
			t.Errorf("it speaks TLS version %x", version)
		}
		return connection.Close()
	})
	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}
	if connection, err := tls.Dial("tcp", address("127.0.0.1"), old); err == nil {
		_ = connection.Close()
		t.Error("it speaks TLS 1.2")
	}
	for _, host := range others(t) {
		if connection, err := net.DialTimeout("tcp", address(host), time.Second); err == nil {
			_ = connection.Close()
			t.Errorf("it listens on %s", host)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	again, err := net.Listen("tcp", address("127.0.0.1"))
	if err != nil {
		t.Fatalf("its port is in use: %v", err)
	}
	defer func() { _ = again.Close() }()
	if taken, err := net.Listen("tcp", address("::1")); err == nil {
		defer func() { _ = taken.Close() }()
		if err := server.New(server.Options{Port: port}).Start(t.Context()); err == nil {
			t.Error("it starts without an address")
		}
	}
}

// others are the addresses of this machine that are not loopback addresses.
func others(t *testing.T) (hosts []string) {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && !network.IP.IsLoopback() && !network.IP.IsLinkLocalUnicast() {
			hosts = append(hosts, network.IP.String())
		}
	}
	return hosts
}
