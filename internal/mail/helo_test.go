package mail

import (
	"net"
	"testing"
)

func TestLiteral(t *testing.T) {
	for address, want := range map[string]string{
		"10.2.3.4:5000":          "[10.2.3.4]",
		"[2001:db8::1]:5000":     "[IPv6:2001:db8::1]",
		"[::ffff:10.2.3.4]:5000": "[10.2.3.4]",
		"[fe80::1%eth0]:5000":    "[IPv6:fe80::1]",
	} {
		at, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got := literal(at); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
	if got := literal(&net.UnixAddr{Name: "/run/x"}); got != "localhost" {
		t.Errorf("a socket: %s", got)
	}
}

func TestHELOIsChecked(t *testing.T) {
	for helo, ok := range map[string]bool{
		"":                 true,
		"mail.example.com": true,
		"[10.0.0.1]":       true,
		"a b":              false,
		"a\r\nRSET":        false,
		"é":                false,
	} {
		_, err := NewSender(Options{Address: "localhost:25", From: "a@b.example", HELO: helo})
		if (err == nil) != ok {
			t.Errorf("%q: %v, want it accepted: %v", helo, err, ok)
		}
	}
}
