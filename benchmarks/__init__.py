"""One command for each claim, run from a checkout. Side by side with PyTorch:

python -m benchmarks.train_step --model=dcgan64 --batch=32 --peer=torch,torch-compile
python -m benchmarks.layers --model=dcgan64
python -m benchmarks.inception --weights=inception-2015-12-05.pt

The peers need PyTorch: pip install -e '.[bench]'. By themselves:

python -m benchmarks.crash --rounds=100
python -m benchmarks.saving --megabytes=300
"""
