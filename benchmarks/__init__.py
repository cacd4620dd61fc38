"""Side by side with PyTorch: one command for each claim of speed, run from a checkout.

python -m benchmarks.train_step --model=dcgan64 --batch=32 --peer=torch,torch-compile
python -m benchmarks.layers --model=dcgan64

The peers need PyTorch: pip install -e '.[bench]'.
"""
