package cli

import (
	"net/http"
	"net/http/pprof"

	"github.com/spf13/pflag"
)

// pprofPath is the path of the profiles.
const pprofPath = "/debug/pprof/"

// Pprof is the flag --pprof. Its profiles must only be on a port that the inside of the cluster reaches: a CPU profile
// takes CPU time, and the profile of goroutines takes memory.
type Pprof bool

// AddTo adds the flag.
func (p *Pprof) AddTo(flags *pflag.FlagSet, port string) {
	flags.BoolVar((*bool)(p), "pprof", false,
		"serve Go's profiles of CPU, heap and goroutines under "+pprofPath+" on the port of "+port)
}

// AddHandlers adds the profiles to a mux if the flag is set.
func (p Pprof) AddHandlers(mux *http.ServeMux) {
	for path, handler := range p.Handlers() {
		mux.Handle(path, handler)
	}
}

// Handlers returns the handlers of the profiles by their paths; none without the flag. Arguments of the process and
// execution traces are left out.
func (p Pprof) Handlers() map[string]http.Handler {
	if !p {
		return nil
	}
	return map[string]http.Handler{
		pprofPath:             http.HandlerFunc(pprof.Index),
		pprofPath + "profile": http.HandlerFunc(pprof.Profile),
		pprofPath + "cmdline": http.NotFoundHandler(),
		pprofPath + "trace":   http.NotFoundHandler(),
	}
}
