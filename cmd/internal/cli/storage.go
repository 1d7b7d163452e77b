package cli

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/caly-dev/caly/internal/netguard"
	"github.com/caly-dev/caly/internal/objectstore"
)

// StorageFlags are the platform's flags for the stores that tenants name, and for its proxy to them and to all other
// hosts that tenants name. All programs that ask stores have them.
type StorageFlags struct {
	AllowHTTP     bool
	CIDRs         []string
	EgressProxy   string
	EgressNoProxy []string
}

// AddTo adds the flags to a command.
func (s *StorageFlags) AddTo(f *pflag.FlagSet) {
	f.BoolVar(&s.AllowHTTP, "allow-http-storage", false, "let the tenants' object stores be asked over plain http")
	f.StringSliceVar(&s.CIDRs, "allowed-storage-cidrs", nil,
		"private address ranges that the tenants' object stores may be in")
	f.StringVar(&s.EgressProxy, "egress-proxy", "",
		"URL of an HTTP proxy (CONNECT) to the tenants' stores, agents and recordings and to Exotel; empty: none")
	f.StringSliceVar(&s.EgressNoProxy, "egress-no-proxy", nil,
		"hosts, .domains, addresses and ranges that are reached without the egress proxy")
}

// Policy reads the flags.
func (s *StorageFlags) Policy() (objectstore.Policy, error) {
	cidrs, err := ParseCIDRs("allowed-storage-cidrs", s.CIDRs)
	if err != nil {
		return objectstore.Policy{}, err
	}
	egress, err := netguard.NewEgress(s.EgressProxy, s.EgressNoProxy)
	if err != nil {
		return objectstore.Policy{}, UsageError(nil, fmt.Errorf("--egress-proxy: %w", err))
	}
	return objectstore.Policy{AllowHTTP: s.AllowHTTP, AllowedCIDRs: cidrs, Egress: egress}, nil
}
