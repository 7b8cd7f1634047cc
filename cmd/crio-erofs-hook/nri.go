package main

import (
	"context"
	"fmt"
	"io"
	"log/syslog"
	"os"

	"github.com/sirupsen/logrus"
	lsyslog "github.com/sirupsen/logrus/hooks/syslog"
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/hooks/metrics"
	"github.com/crio-erofs/crio-erofs/hooks/nri"
	"github.com/crio-erofs/crio-erofs/hooks/nriconf"
)

func newNRICommand() *cobra.Command {
	external := nri.External{Plugin: &nri.Plugin{Metrics: metrics.New(version)}}
	cmd := &cobra.Command{
		Use:   "nri",
		Short: "Be an NRI plugin that connects to CRI-O's NRI socket",
		Long: "Be an NRI plugin that connects to CRI-O's NRI socket. It waits while there is no socket, and connects\n" +
			"again after CRI-O was restarted. SIGTERM ends it.\n\n" +
			"Do not run it beside the same plugin in CRI-O's plugin directory: NRI refuses a container for which two\n" +
			"plugins set one annotation.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if nri.Preinstalled() {
				return runPreinstalled(cmd.Context())
			}
			if address := external.Plugin.MetricsAddress; address != "" {
				if _, _, err := nriconf.SplitAddress(address); err != nil {
					return fmt.Errorf("--metrics-addr: %w", err)
				}
			}
			return external.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&external.Socket, "socket", nri.DefaultSocket, "CRI-O's NRI socket (nri_listen)")
	cmd.Flags().StringVar(&external.Name, "name", nriconf.PluginName, "name to register")
	addConfigFlag(cmd, &external.Plugin.Configuration.Path)
	cmd.Flags().StringVar(&external.Plugin.Guard, "guard", ownPath(), "path, for the runtime, of this program as the "+
		"guard of containers with volumes; empty: no guard")
	cmd.Flags().Lookup("guard").DefValue = "this program" // for help texts: the path is another one everywhere
	cmd.Flags().StringVar(&external.Index, "idx", nriconf.PluginIndex, "two digits; NRI asks plugins in this order")
	cmd.Flags().StringVar(&external.Plugin.MetricsAddress, "metrics-addr", "", "serve Prometheus metrics at HOST:PORT or "+
		"unix:/PATH; empty: nowhere")
	cmd.Flags().StringVar(&external.Plugin.GraphRoot, "graphroot", metrics.DefaultGraphRoot, "CRI-O's container storage, for the metrics of the store")
	return cmd
}

// runPreinstalled logs to the system's log, if there is one: the runtime gives a pre-installed plugin /dev/null as
// standard error.
func runPreinstalled(ctx context.Context) error {
	hook, err := lsyslog.NewSyslogHook("", "", syslog.LOG_INFO|syslog.LOG_DAEMON, nriconf.PluginName)
	if err == nil {
		logrus.AddHook(hook)
		logrus.SetOutput(io.Discard)
		logrus.SetFormatter(&logrus.TextFormatter{DisableTimestamp: true, DisableColors: true})
	}
	return nri.RunPreinstalled(ctx, &nri.Plugin{Guard: ownPath(), Metrics: metrics.New(version)})
}

// ownPath returns the path of this program, not of the link by which the runtime knows it as a plugin; empty if it
// cannot be found out.
func ownPath() string {
	path, err := os.Executable()
	if err != nil {
		logrus.WithError(err).Warn("containers get no guard")
		return ""
	}
	return path
}
