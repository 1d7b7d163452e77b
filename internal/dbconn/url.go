package dbconn

import (
	"net/url"
	"strings"
)

// WithUser returns a connection URL with another user and password.
func WithUser(dsn, user, password string) (string, error) {
	address, err := parseURL(dsn)
	if err != nil || address.Host == "" {
		return "", ErrURL
	}
	address.User = url.UserPassword(user, password)
	return address.String(), nil
}

// User returns the user and the password in a connection URL.
func User(dsn string) (user, password string, ok bool) {
	address, err := parseURL(dsn)
	if err != nil || address.User == nil {
		return "", "", false
	}
	password, _ = address.User.Password()
	return address.User.Username(), password, true
}

// Check reports whether a connection string can be one, without opening the files that it may name.
func Check(dsn string) error {
	if !strings.Contains(dsn, "://") {
		if strings.Contains(dsn, "=") { // libpq's other form: host=... user=...
			return nil
		}
		return ErrURL
	}
	address, err := parseURL(dsn)
	if err != nil {
		return ErrURL
	}
	if address.Scheme != "postgres" && address.Scheme != "postgresql" ||
		address.Host == "" && address.Query().Get("host") == "" {
		return ErrURL
	}
	return nil
}

// parseURL reads a connection URL. It may have several hosts with commas in between, as libpq allows. net/url accepts
// such a list only while no host in it is an IPv6 address in brackets.
func parseURL(dsn string) (*url.URL, error) {
	address, err := url.Parse(dsn)
	if err == nil {
		return address, nil
	}
	begin := strings.Index(dsn, "://")
	if begin < 0 {
		return nil, ErrURL
	}
	begin += len("://")
	end := len(dsn)
	if i := strings.IndexAny(dsn[begin:], "/?#"); i >= 0 {
		end = begin + i
	}
	begin += strings.LastIndexByte(dsn[begin:end], '@') + 1
	hosts := dsn[begin:end]
	if !strings.Contains(hosts, ",") || strings.Trim(hosts, hostBytes) != "" {
		return nil, ErrURL
	}
	if address, err = url.Parse(dsn[:begin] + "hosts" + dsn[end:]); err != nil {
		return nil, ErrURL // err quotes the password
	}
	address.Host = hosts
	return address, nil
}

// hostBytes are those of names, IPv4 addresses, IPv6 addresses in brackets, ports and commas.
const hostBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:[],"
