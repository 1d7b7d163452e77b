package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// NewLogLevelCommand returns the command "log-level". It sends a signal, since a pod without a shell has no other
// program that could.
func NewLogLevelCommand() *cobra.Command {
	pid := 1
	cmd := &cobra.Command{
		Use:   "log-level debug|reset",
		Short: "Change the log level of a running Caly process: debug, or reset to the level of its start",
		Long: "Sends SIGUSR1 (debug) or SIGUSR2 (reset) to a process of Caly. The change holds until the process ends.\n" +
			"Run it in the container of the process, whose number is 1 there.",
		Example: "  kubectl -n caly-system exec deployment/caly-dataplane -- /caly log-level debug\n" +
			"  kubectl -n caly-uploads exec POD -- /caly log-level reset",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := levelSignal(args)
			if err != nil {
				return UsageError(cmd, err)
			}
			if err := checkProcess(pid); err != nil {
				return err
			}
			if err := syscall.Kill(pid, s); err != nil {
				return fmt.Errorf("signal process %d: %w", pid, err)
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&pid, "pid", pid, "number of the process")
	return cmd
}

// levelSignal returns the signal that the argument stands for.
func levelSignal(args []string) (syscall.Signal, error) {
	switch strings.Join(args, " ") {
	case "debug":
		return signalDebug, nil
	case "reset":
		return signalReset, nil
	}
	return 0, errors.New("give one argument: debug or reset")
}

// checkProcess returns an error unless the process is one of Caly. The signals end other programs.
func checkProcess(pid int) error {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return fmt.Errorf("read the name of process %d: %w", pid, err)
	}
	first, _, _ := bytes.Cut(data, []byte{0})
	name := path.Base(string(first))
	if name == "caly" || strings.HasPrefix(name, "caly-") {
		return nil
	}
	return fmt.Errorf(
		"process %d is not caly or caly-upload: run this in its container, or name the process by --pid", pid,
	)
}
