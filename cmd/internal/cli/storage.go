package cli

import (
	"github.com/spf13/pflag"

	"github.com/caly-dev/caly/internal/objectstore"
)

// StorageFlags are the platform's flags for the stores that tenants name. All programs that ask stores have them.
type StorageFlags struct {
	AllowHTTP bool
	CIDRs     []string
}

// AddTo adds the flags to a command.
func (s *StorageFlags) AddTo(f *pflag.FlagSet) {
	f.BoolVar(&s.AllowHTTP, "allow-http-storage", false, "let the tenants' object stores be asked over plain http")
	f.StringSliceVar(&s.CIDRs, "allowed-storage-cidrs", nil,
		"private address ranges that the tenants' object stores may be in")
}

// Policy reads the flags.
func (s *StorageFlags) Policy() (objectstore.Policy, error) {
	cidrs, err := ParseCIDRs("allowed-storage-cidrs", s.CIDRs)
	return objectstore.Policy{AllowHTTP: s.AllowHTTP, AllowedCIDRs: cidrs}, err
}
