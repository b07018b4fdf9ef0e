# The Connect server. An empty token means that none is asked for, where Spark would ask for an empty one.
[ -n "$SPARK_CONNECT_AUTHENTICATE_TOKEN" ] || unset SPARK_CONNECT_AUTHENTICATE_TOKEN
exec spark-submit --class org.apache.spark.sql.connect.service.SparkConnectServer
