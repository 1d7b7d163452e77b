package upload

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// TestUploadOverIPv6 uploads a recording where Exotel, the store and PostgreSQL have IPv6 addresses alone.
func TestUploadOverIPv6(t *testing.T) {
	if listener, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("this machine has no IPv6: %v", err)
	} else {
		_ = listener.Close()
	}
	rig := newRig(t)
	exotel, err := exotelsim.NewServer(exotelsim.Options{Listen: "[::1]:0", Key: "key", Token: "token"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(exotel.Close)
	rig.exotel, rig.cfg.ExotelAPI = exotel, exotel.URL()
	rig.cfg.AllowedSourceHosts = []string{exotel.Addr()}
	rig.cfg.Endpoint = "http://" + relay(t, strings.TrimPrefix(rig.s3.Endpoint, "http://"))
	direct := strings.Replace(rig.db.Address(), "127.0.0.1", "[::1]", 1)
	rig.cfg.DatabaseURL = secret.Sensitive(pgtest.At(t, rig.cfg.DatabaseURL.Reveal(), direct))
	rig.o.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("::1/128")}
	rig.o.Stores.AllowedCIDRs = rig.o.AllowedCIDRs
	id, path := rig.queue("c1", 200_000)
	if err := rig.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	rig.wantUploaded(id, path, 200_000)
}

// relay listens on an IPv6 address and passes bytes on to another one.
func relay(t *testing.T, to string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			go pass(in, to)
		}
	}()
	return listener.Addr().String()
}

func pass(in net.Conn, to string) {
	defer func() { _ = in.Close() }()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	go func() {
		_, _ = io.Copy(out, in)
		_ = out.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(in, out)
}
