import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.api.common.restartstrategy.RestartStrategies;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.slf4j.LoggerFactory;

/** A plain Flink job that dies as a Beam job does, for want of what the first argument says; the second is its name. */
public class FailingJob {
    public static class Lacking implements MapFunction<Long, Long> {
        private final String what;

        Lacking(String what) {
            this.what = what;
        }

        @Override
        public Long map(Long value) throws Exception {
            List<Object> kept = new ArrayList<>();
            switch (what) {
                case "direct": // gRPC logs it and closes the call: the job's own exception says that alone
                    try {
                        while (true) {
                            kept.add(ByteBuffer.allocateDirect(32 << 20));
                        }
                    } catch (OutOfMemoryError error) {
                        LoggerFactory.getLogger("grpc").error("in gRPC", error);
                        throw new IllegalStateException("call is closed");
                    }
                case "program":
                    new ProcessBuilder("/none/worker").start();
                    throw new IllegalStateException("it is there");
                default:
                    while (true) {
                        kept.add(new byte[32 << 20]);
                    }
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment();
        environment.setRestartStrategy(RestartStrategies.noRestart());
        environment.fromSequence(1, 4).map(new Lacking(arguments[0])).returns(Long.class).print();
        environment.execute(arguments[1]);
    }
}
