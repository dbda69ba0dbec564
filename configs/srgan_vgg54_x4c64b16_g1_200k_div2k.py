# SRGAN-VGG54 x4, the paper's SRGAN: content loss on phi_5,4, VGG-19's conv5_4 after its ReLU.
#
#   python tools/train.py configs/srgan_vgg54_x4c64b16_g1_200k_div2k.py \
#       --cfg-options load_from=work_dirs/srresnet_x4c64b16_g1_1000k_div2k/iter_1000000.pth
#   python tools/test.py configs/srgan_vgg54_x4c64b16_g1_200k_div2k.py CHECKPOINT
#
# The paper's PSNR on Y: Set5 29.40, Set14 26.02, BSD100 25.16. For the scale of the features and the
# weights see srgan_vgg22_x4c64b16_g1_200k_div2k.py.
_base_ = './srgan_vgg22_x4c64b16_g1_200k_div2k.py'

reference_model = 'srgan_vgg54'

model = dict(
    perceptual_loss=dict(layer_weights=dict(_delete_=True, relu5_4=1.0)))
